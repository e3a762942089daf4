// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

// Package options resolves the settings of a publisher from its flags, environment and configuration file.
package options

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// Option is one setting. A flag beats the environment, the environment beats the file, the file beats the default.
type Option struct {
	Flag    string
	Env     string
	File    string // dotted path inside the configuration file; empty: cannot be set there
	Default string
	Usage   string
	Check   func(value string) error // nil: any text
}

// Set holds the options of one program and what its command line said.
type Set struct {
	options []Option
	given   map[string]string
}

// Values are resolved settings by flag name, with the whole configuration file for what is no plain setting.
type Values struct {
	byFlag   map[string]string
	Document map[string]any
}

// Parse reads the command line. Every option takes a value; "--flag" alone means "true".
func Parse(program string, options []Option, arguments []string) (*Set, error) {
	set := &Set{options: options, given: map[string]string{}}
	flags := flag.NewFlagSet(program, flag.ContinueOnError)
	for _, option := range options {
		flags.Var(&given{set.given, option.Flag, isSwitch(option.Default)}, option.Flag, option.Usage)
	}
	if err := flags.Parse(arguments); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return set, nil
}

// Resolve reads the environment and the configuration file as they are now.
func (s *Set) Resolve() (*Values, error) {
	values := &Values{byFlag: map[string]string{}, Document: map[string]any{}}
	if path := s.lookup(Option{Flag: "config-file", Env: "CONFIG_FILE"}, nil); path != "" {
		document, err := readDocument(path)
		if err != nil {
			return nil, fmt.Errorf("unable to read the configuration file: %w", err)
		}
		values.Document = document
	}
	for _, option := range s.options {
		value := s.lookup(option, values.Document)
		if isSwitch(option.Default) {
			if _, err := strconv.ParseBool(value); err != nil {
				return nil, fmt.Errorf("invalid %s %q: want true or false", option.Flag, value)
			}
		}
		if option.Check != nil {
			if err := option.Check(value); err != nil {
				return nil, fmt.Errorf("invalid %s: %w", option.Flag, err)
			}
		}
		values.byFlag[option.Flag] = value
	}
	return values, nil
}

func (s *Set) lookup(option Option, document map[string]any) string {
	if value, found := s.given[option.Flag]; found {
		return value
	}
	if value, found := os.LookupEnv(option.Env); found && value != "" {
		return value
	}
	if value, found := fromDocument(document, option.File); found {
		return value
	}
	return option.Default
}

// String returns a setting as text.
func (v *Values) String(name string) string { return v.byFlag[name] }

// Bool returns a setting that Resolve has checked to be a switch.
func (v *Values) Bool(name string) bool {
	value, _ := strconv.ParseBool(v.byFlag[name])
	return value
}

// List returns a setting split at its commas.
func (v *Values) List(name string) []string {
	var items []string
	for _, item := range strings.Split(v.byFlag[name], ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// Duration returns a setting that was checked with IsDuration.
func (v *Values) Duration(name string) time.Duration {
	value, _ := time.ParseDuration(v.byFlag[name])
	return value
}

// IsDuration accepts what time.ParseDuration does.
func IsDuration(value string) error {
	_, err := time.ParseDuration(value)
	return err
}

// OneOf accepts the listed words.
func OneOf(words ...string) func(string) error {
	return func(value string) error {
		for _, word := range words {
			if value == word {
				return nil
			}
		}
		return fmt.Errorf("%q is none of %s", value, strings.Join(words, ", "))
	}
}

func readDocument(path string) (map[string]any, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	document := map[string]any{}
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if version, found := document["version"]; found && version != "v1" {
		return nil, fmt.Errorf("%s: unknown version: %v", path, version)
	}
	return document, nil
}

func fromDocument(document map[string]any, path string) (string, bool) {
	if path == "" {
		return "", false
	}
	var at any = document
	for _, key := range strings.Split(path, ".") {
		level, isMap := at.(map[string]any)
		if !isMap {
			return "", false
		}
		at = level[key]
	}
	switch value := at.(type) {
	case nil:
		return "", false
	case []any:
		items := make([]string, 0, len(value))
		for _, item := range value {
			items = append(items, fmt.Sprint(item))
		}
		return strings.Join(items, ","), true
	default:
		return fmt.Sprint(value), true
	}
}

func isSwitch(value string) bool { return value == "true" || value == "false" }

// given is a flag.Value that remembers that it was given at all.
type given struct {
	seen     map[string]string
	name     string
	isSwitch bool
}

func (g *given) String() string { return "" }

func (g *given) Set(value string) error {
	g.seen[g.name] = value
	return nil
}

func (g *given) IsBoolFlag() bool { return g.isSwitch }

// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026 gpufleet.mig maintainers

package options_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gpufleet.io/lab/publishers/internal/options"
)

var settings = []options.Option{
	{Flag: "config-file", Env: "CONFIG_FILE"},
	{Flag: "mig-strategy", Env: "MIG_STRATEGY", File: "flags.migStrategy", Default: "none",
		Check: options.OneOf("none", "single", "mixed")},
	{Flag: "fail-on-init-error", Env: "FAIL_ON_INIT_ERROR", File: "flags.failOnInitError", Default: "true"},
	{Flag: "device-list-strategy", Env: "DEVICE_LIST_STRATEGY", File: "flags.plugin.deviceListStrategy", Default: "envvar"},
}

func resolve(t *testing.T, file string, arguments ...string) (*options.Values, error) {
	t.Helper()
	if file != "" {
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("CONFIG_FILE", path)
	}
	set, err := options.Parse("test", settings, arguments)
	if err != nil {
		return nil, err
	}
	return set.Resolve()
}

func TestFlagBeatsEnvironmentBeatsFileBeatsDefault(t *testing.T) {
	const file = "version: v1\nflags:\n  migStrategy: single\n"
	expect := func(want, file string, arguments ...string) {
		t.Helper()
		values, err := resolve(t, file, arguments...)
		if err != nil {
			t.Fatal(err)
		}
		if got := values.String("mig-strategy"); got != want {
			t.Fatalf("strategy %s, want %s", got, want)
		}
	}
	expect("none", "")
	expect("single", file)
	t.Setenv("MIG_STRATEGY", "mixed")
	expect("mixed", file)
	expect("none", file, "--mig-strategy=none")
}

func TestTypesOfAConfigurationFile(t *testing.T) {
	values, err := resolve(t, "flags:\n  failOnInitError: false\n  plugin:\n    deviceListStrategy: [envvar, cdi-cri]\n")
	if err != nil {
		t.Fatal(err)
	}
	if values.Bool("fail-on-init-error") || strings.Join(values.List("device-list-strategy"), " ") != "envvar cdi-cri" {
		t.Fatalf("%v", values)
	}
}

func TestWhatIsRefused(t *testing.T) {
	for file, text := range map[string]string{
		"flags:\n  migStrategy: bogus\n":   `"bogus" is none of none, single, mixed`,
		"version: v7\n":                    "unknown version: v7",
		"flags: [":                         "yaml",
		"flags:\n  failOnInitError: often": "want true or false",
	} {
		if _, err := resolve(t, file); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", file, err)
		}
	}
}

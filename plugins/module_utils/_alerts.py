# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""The alerts that fire in Prometheus."""

from __future__ import annotations

import json
import re
import urllib.request
from http.client import HTTPException
from urllib.parse import urlsplit

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

TIMEOUT_S = 10.0
PATH = "/api/v1/alerts"


class AlertsUnknown(MigError):
    """Nobody can say whether an alert fires."""


def check(url: str, ignore: str) -> re.Pattern[str]:
    """The expression for names of alerts that do not count. MigError for an address or expression that is none."""
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise MigError(f"mig_alerts_url is {url!r}; write http://HOST:9090 or https://.... Nothing was changed.")
    try:
        return re.compile(ignore)
    except re.error as error:
        raise MigError(
            f"mig_alerts_ignore is {ignore!r}, which is no regular expression: {error}. Nothing was changed."
        ) from error


def firing(url: str, ignore: re.Pattern[str]) -> list[str]:
    """Names of the firing alerts, those left out whose whole name `ignore` matches. AlertsUnknown without an answer."""
    where = url.rstrip("/") + PATH
    try:
        with urllib.request.build_opener().open(where, timeout=TIMEOUT_S) as answer:
            told = json.load(answer)
        names = {str(one["labels"]["alertname"]) for one in told["data"]["alerts"] if one["state"] == "firing"}
    except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
        raise AlertsUnknown(f"{where} does not tell which alerts fire ({type(error).__name__}: {error})") from error
    return sorted(name for name in names if not ignore.fullmatch(name))

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Where the Kubernetes API is and who we are there: the only file that imports the kubernetes client.

The client library is used for what is hard (kubeconfig merging, exec plugins, token refresh, TLS, proxies); its
generated models are not, because they cost start-up time in every module process and only translate JSON forth and
back.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError
from ansible_collections.gpufleet.mig.plugins.module_utils._kube_api import first_line

SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
REMEDY = "set kubeconfig (mig_kubeconfig) to one that can be used"


def describe_source(kubeconfig: str | None, context: str | None) -> str:
    """Which credentials are used, in words for messages."""
    if kubeconfig is None and not os.environ.get("KUBECONFIG") and not _default_file().is_file():
        return "service account of this pod"
    where = f"kubeconfig {kubeconfig or os.environ.get('KUBECONFIG') or _default_file()}"
    return f"{where}, context {context}" if context else where


def _default_file() -> Path:
    return Path("~/.kube/config").expanduser()


def load_configuration(kubeconfig: str | None, context: str | None) -> Any:
    """A filled ``kubernetes.client.Configuration``; every way to fail says which file and what to give."""
    files = _configured_files(kubeconfig)
    try:
        from kubernetes import config
        from kubernetes.client import Configuration
    except ImportError as error:
        raise MigError(
            f"The Python package kubernetes cannot be imported ({error}): install it where this module runs, "
            "for example with pip install kubernetes."
        ) from error
    configuration = Configuration()
    if not files:
        try:
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException as error:
            raise MigError(f"The service account of this pod cannot be used for the Kubernetes API: {error}") from error
        return configuration
    shown = os.pathsep.join(map(str, files))
    try:
        names, _current = config.list_kube_config_contexts(config_file=shown)
        known = sorted(entry["name"] for entry in names)
    except config.ConfigException as error:
        raise MigError(f"Kubeconfig {shown} cannot be used ({error}): {REMEDY}.") from error
    except Exception as error:  # YAML errors, wrong types: the library lets them through as they come
        raise MigError(f"Kubeconfig {shown} is not a kubeconfig ({first_line(error)}): {REMEDY}.") from error
    if context is not None and context not in known:
        raise MigError(
            f"Kubeconfig {shown} has no context {context}: it has {', '.join(known) or 'none'}; set context "
            "(mig_kube_context) to one of them, or kubeconfig (mig_kubeconfig) to another file.",
            contexts=known,
        )
    try:
        config.load_kube_config(
            config_file=shown, context=context, client_configuration=configuration, persist_config=False
        )
    except Exception as error:  # missing certificate files, exec plugins that fail, wrong base64
        raise MigError(f"The credentials in kubeconfig {shown} cannot be loaded: {first_line(error)}") from error
    return configuration


def _configured_files(kubeconfig: str | None) -> list[Path]:
    """The kubeconfig files to merge; [] means the pod's own service account."""
    if kubeconfig is not None:
        files = [Path(kubeconfig).expanduser()]
        origin = "the kubeconfig option"
    elif os.environ.get("KUBECONFIG"):
        files = [Path(part).expanduser() for part in os.environ["KUBECONFIG"].split(os.pathsep) if part]
        origin = "the environment variable KUBECONFIG"
        # kubectl reads the parts that exist and needs one of them
        files = [path for path in files if path.exists()] or files
    elif _default_file().is_file():
        return [_default_file()]
    elif SERVICE_ACCOUNT_TOKEN.is_file():
        return []
    else:
        raise MigError(
            "No kubeconfig: neither the kubeconfig option nor KUBECONFIG is set and ~/.kube/config does not exist on "
            "the machine that runs this module. Set kubeconfig (mig_kubeconfig), or mig_kubernetes: false for hosts in "
            "no cluster."
        )
    for path in files:
        if not path.is_file():
            raise MigError(
                f"Kubeconfig {path} (from {origin}) does not exist on the machine that runs this module: {REMEDY}."
            )
        if not os.access(path, os.R_OK):
            raise MigError(
                f"Kubeconfig {path} (from {origin}) may not be read by the user that runs this module: {REMEDY}."
            )
    return files


def open_pool(configuration: Any) -> Any:
    """The client library's urllib3 pool, with its TLS and proxy settings."""
    import urllib3
    from kubernetes.client.rest import RESTClientObject

    if not configuration.verify_ssl:
        # The kubeconfig says insecure-skip-tls-verify; a warning per request would bury the module's own words.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    try:
        return RESTClientObject(configuration).pool_manager
    except Exception as error:  # ssl errors of several kinds, file errors
        raise MigError(f"The TLS files of the kubeconfig cannot be used: {first_line(error)}") from error

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""Comparing rendered manifests and judging workloads: pure parts of helm_release, cases that a cluster rarely shows."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gpufleet.mig.plugins.module_utils import _manifests, _pods, _release, _rollout
from ansible_collections.gpufleet.mig.plugins.module_utils._errors import MigError

CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {a: %s}\n"


def test_order_comments_and_layout_are_no_difference() -> None:
    one = _manifests.parse("# Source: a\n" + CONFIG % ("x", "'1'") + "---\n" + CONFIG % ("y", "'2'"))
    other = _manifests.parse("---\n" + CONFIG % ("y", '"2"') + "---\n\n---\n" + CONFIG % ("x", '"1"') + "# end\n")
    assert one == other
    assert _manifests.changed(one, other) == []


def test_the_same_name_in_another_namespace_or_group_is_another_object() -> None:
    text = "---\n".join(
        f"apiVersion: {version}\nkind: Thing\nmetadata: {{name: x, namespace: {namespace}}}\n"
        for version in ("a/v1", "b/v1")
        for namespace in ("one", "two")
    )
    assert len(_manifests.parse(text)) == 4


def test_lists_are_unfolded() -> None:
    text = "apiVersion: v1\nkind: List\nitems: [{kind: ConfigMap, apiVersion: v1, metadata: {name: x}}]\n"
    assert [key.name for key in _manifests.parse(text)] == ["x"]


@pytest.mark.parametrize("text", ["a: [", "just words\n", "a: 1\n"])
def test_what_is_no_manifest_is_told(text: str) -> None:
    with pytest.raises(MigError, match="rendered manifest"):
        _manifests.parse(text)


def secret(**values: str) -> _manifests.Objects:
    document = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": values}
    return {_manifests.ref(document): document}


@given(
    st.dictionaries(st.sampled_from("abc"), st.uuids().map(str)),
    st.dictionaries(st.sampled_from("abc"), st.uuids().map(str)),
)
def test_no_value_of_a_secret_is_ever_shown_and_every_change_is(old: dict[str, str], new: dict[str, str]) -> None:
    shown = _manifests.difference(secret(**old), secret(**new))
    text = shown["before"] + shown["after"]
    assert not any(value in text for value in [*old.values(), *new.values()])
    assert (shown["before"] != shown["after"]) == (old != new)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=2), inner),
    )
)
@pytest.mark.slow
def test_values_equal_themselves_after_a_trip_through_json(value: Any) -> None:
    import json

    assert _manifests.same_values({"v": value}, json.loads(json.dumps({"v": value})))


def test_values_that_mean_the_same() -> None:
    assert _manifests.same_values(None, {})
    assert _manifests.same_values({"a": 1}, {"a": 1.0})
    assert not _manifests.same_values({"a": 1}, {"a": "1"})
    assert not _manifests.same_values({"a": True}, {"a": 1})
    assert not _manifests.same_values({"a": None}, {})


def test_merge_is_deep_and_replaces_lists() -> None:
    merged = _manifests.merge({"a": {"b": 1, "c": [1, 2]}}, {"a": {"c": [3]}, "d": 4})
    assert merged == {"a": {"b": 1, "c": [3]}, "d": 4}


@pytest.mark.parametrize(
    ("form", "digits"),
    [("%Y-%m-%dT%H:%M:%S.{}Z", "123456789"), ("%Y-%m-%dT%H:%M:%S.{}+00:00", "5"), ("%Y-%m-%dT%H:%M:%SZ", "")],
)
def test_age_of_helms_times(form: str, digits: str) -> None:
    moment = datetime.now(timezone.utc) - timedelta(seconds=90)
    assert 88 < _release._age(moment.strftime(form.format(digits))) < 100


def test_age_of_no_time_is_old() -> None:
    assert _release._age("") == float("inf")


def workload(kind: str, status: dict[str, Any], generation: int = 2, **spec: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "metadata": {"generation": generation},
        "spec": spec,
        "status": {"observedGeneration": 2, **status},
    }


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (workload("DaemonSet", {"desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 2}), None),
        (workload("DaemonSet", {"desiredNumberScheduled": 0}), None),
        (workload("DaemonSet", {}, generation=3), "not looked at"),
        (
            workload("DaemonSet", {"desiredNumberScheduled": 2, "updatedNumberScheduled": 1, "numberAvailable": 2}),
            "1 of 2",
        ),
        (
            workload(
                "DaemonSet",
                {"desiredNumberScheduled": 2, "updatedNumberScheduled": 1, "numberAvailable": 2},
                updateStrategy={"type": "OnDelete"},
            ),
            None,
        ),
        (workload("DaemonSet", {"desiredNumberScheduled": 2, "updatedNumberScheduled": 2}), "0 of 2 pods available"),
        (workload("Deployment", {"updatedReplicas": 1, "availableReplicas": 1, "replicas": 1}), None),
        (workload("Deployment", {"updatedReplicas": 1, "availableReplicas": 1, "replicas": 2}), "revision before"),
        (workload("Deployment", {}, replicas=0), None),
        (workload("StatefulSet", {"updatedReplicas": 3, "availableReplicas": 2}, replicas=3), "2 of 3 pods available"),
    ],
)
def test_when_a_workload_is_rolled_out(found: dict[str, Any], problem: str | None) -> None:
    said = _rollout.unfinished(found)
    if problem is None:
        assert said is None
    else:
        assert said is not None
        assert problem in said


def broken(status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "namespace": "n", **metadata},
        "spec": {"nodeName": "a"},
        "status": {"phase": "Pending", **status},
    }


def container(**fields: Any) -> dict[str, Any]:
    return {"name": "main", "ready": False, "restartCount": 0, **fields}


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        (broken({}, deletionTimestamp="2026-01-01T00:00:00Z"), "is still ending"),
        (broken({}), "its phase is Pending"),
        (
            broken({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]}),
            "no node takes it (0/3 nodes are available)",
        ),
        (
            broken({"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "no healthy devices"}),
            "it failed (UnexpectedAdmissionError: no healthy devices)",
        ),
        (
            broken(
                {
                    "containerStatuses": [
                        container(state={"waiting": {"reason": "ImagePullBackOff", "message": "no\nhost"}})
                    ]
                }
            ),
            "container main waits (ImagePullBackOff): no | host",
        ),
        (
            broken({"containerStatuses": [container(state={"terminated": {"exitCode": 137, "reason": "OOMKilled"}})]}),
            "container main ended with exit code 137 (OOMKilled)",
        ),
        (broken({"containerStatuses": [container(state={"running": {}})]}), "runs but does not report ready"),
        (
            broken(
                {
                    "initContainerStatuses": [container(state={"running": {}})],
                    "containerStatuses": [container(state={"waiting": {"reason": "PodInitializing"}})],
                }
            ),
            "init container main still runs",
        ),
    ],
)
def test_why_a_pod_is_not_ready(pod: dict[str, Any], words: str) -> None:
    said = _pods.why_not_ready(pod)
    assert said.startswith("pod n/p on node a is ")
    assert words in said

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026 gpufleet.mig maintainers
"""helm_release with the real helm against a real API server: its answers, and what kubectl and helm would see."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
import urllib.error
from pathlib import Path
from typing import Any

import pytest
from integration.helm.conftest import Release
from integration.helm.helm_cluster import LAST_WORDS, Cluster
from unit.kube_server import run_module

pytestmark = pytest.mark.slow

CRD = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: "%(plural)s.sample.io"}
spec:
  group: sample.io
  scope: Namespaced
  names: {kind: Thing, plural: %(plural)s}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {%(fields)s}}}}}
"""
THING = "apiVersion: sample.io/v1\nkind: Thing\nmetadata: {name: '{{ .Release.Name }}'}\nspec: {size: 1}\n"
HOOK = """\
apiVersion: batch/v1
kind: Job
metadata: {name: "{{ .Release.Name }}-hook", annotations: {helm.sh/hook: "pre-install,pre-upgrade"}}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: never}]}}}
"""


def unchanged(answer: dict[str, Any]) -> bool:
    return answer["changed"] is False and answer["actions"] == [] and answer["diff"] == {"before": "", "after": ""}


def message(answer: dict[str, Any]) -> str:
    assert answer["failed"], answer
    assert "Traceback" not in json.dumps(answer)
    return str(answer["msg"])


def test_check_run_run_check(release: Release) -> None:
    predicted = release(check=True)
    assert predicted["changed"]
    assert predicted["release"] is None
    assert release.cluster.find(f"/api/v1/namespaces/{release.namespace}") is None
    done = release()
    assert (done["changed"], done["actions"], done["diff"]) == (True, predicted["actions"], predicted["diff"])
    assert done["release"] == {
        "name": "sample",
        "namespace": release.namespace,
        "revision": 1,
        "status": "deployed",
        "chart": "sample-1.0.0",
        "app_version": "1",
    }
    assert release.get("daemonsets", group="/apis/apps/v1")["status"]["numberAvailable"] == 1
    assert unchanged(release())
    assert unchanged(release(check=True))
    assert [each["revision"] for each in json.loads(release.helm("history", "sample", "-o", "json"))] == [1]


def test_only_objects_that_differ_are_shown_and_secrets_never(release: Release) -> None:
    release()
    params: dict[str, Any] = {"values": {"greeting": "bye"}, "secret_values": {"word": "abracadabra"}}
    predicted = release(check=True, **params)
    assert release.get("configmaps")["data"] == {"greeting": "hello"}
    done = release(**params)
    assert done["diff"] == predicted["diff"]
    assert release.get("configmaps")["data"] == {"greeting": "bye"}
    for text in (json.dumps(done), json.dumps(predicted)):
        assert "abracadabra" not in text
        assert "sesame" not in text
    before, after = done["diff"]["before"], done["diff"]["after"]
    assert "greeting: hello" in before
    assert "greeting: bye" in after
    assert "(hidden, another value)" in after
    assert "DaemonSet" not in before + after
    assert "values differ" in done["actions"][0]
    assert unchanged(release(**params))


def test_values_are_not_on_helms_command_line(release: Release, tmp_path: Path) -> None:
    spy = tmp_path / "helm"
    spy.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {tmp_path}/calls\nexec {release.cluster.helm} "$@"\n')
    spy.chmod(0o755)
    release(helm_binary=str(spy), values={"greeting": "plainly"}, secret_values={"word": "abracadabra"})
    calls = (tmp_path / "calls").read_text()
    assert "upgrade sample" in calls
    assert "plainly" not in calls
    assert "abracadabra" not in calls


def test_dropped_values_fall_back_to_the_charts(release: Release) -> None:
    release(values={"greeting": "bye"})
    assert release()["changed"]
    assert release.get("configmaps")["data"] == {"greeting": "hello"}


def test_definitions_are_installed_used_at_once_and_kept_up_to_date(release: Release, cluster: Cluster) -> None:
    plural = f"things{release.namespace[-8:]}"
    where = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.sample.io"
    release.write({"crds/thing.yaml": CRD % {"plural": plural, "fields": "size: {type: integer}"}})
    release.write({"templates/thing.yaml": THING.replace("sample.io/v1", "sample.io/v1")})
    predicted = release(check=True)
    assert cluster.find(where) is None
    done = release()
    assert done["actions"] == predicted["actions"]
    assert release.get(plural, group="/apis/sample.io/v1")["spec"] == {"size": 1}
    assert unchanged(release())
    release.write(
        {"crds/thing.yaml": CRD % {"plural": plural, "fields": "size: {type: integer}, colour: {type: string}"}}
    )
    predicted = release(check=True)
    assert "colour" not in json.dumps(cluster.find(where)["spec"])
    done = release()
    assert done["actions"] == predicted["actions"] == [f"apply custom resource definitions {plural}.sample.io"]
    assert "colour" in done["diff"]["after"]
    assert "colour" not in done["diff"]["before"]
    assert "colour" in json.dumps(cluster.find(where)["spec"])
    assert unchanged(release())
    release.write({"crds/thing.yaml": CRD % {"plural": plural, "fields": "size: {type: integer}"}})
    assert unchanged(release(update_crds=False))
    cluster.call("DELETE", where)


def test_definitions_of_a_subchart_only_where_it_is_enabled(release: Release, cluster: Cluster) -> None:
    plural = f"parts{release.namespace[-8:]}"
    where = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.sample.io"
    dependency = "dependencies: [{name: sub, version: 1.0.0, condition: sub.enabled}]\n"
    release.write(
        {
            "Chart.yaml": f"apiVersion: v2\nname: sample\nversion: 1.0.0\n{dependency}",
            "charts/sub/Chart.yaml": "apiVersion: v2\nname: sub\nversion: 1.0.0\n",
            "charts/sub/crds/part.yaml": CRD % {"plural": plural, "fields": "size: {type: integer}"},
        }
    )
    release(values={"sub": {"enabled": False}})
    assert cluster.find(where) is None
    release(values={"sub": {"enabled": True}})
    assert cluster.find(where) is not None
    cluster.call("DELETE", where)


def test_an_object_that_someone_deleted_comes_back(release: Release, cluster: Cluster) -> None:
    release()
    cluster.call("DELETE", f"/api/v1/namespaces/{release.namespace}/configmaps/sample")
    predicted = release(check=True)
    done = release()
    assert done["actions"] == predicted["actions"]
    assert "1 object(s) are gone from the cluster: ConfigMap sample" in done["actions"][0]
    assert release.get("configmaps")["data"] == {"greeting": "hello"}
    assert unchanged(release())


def test_chart_version_is_a_difference_and_a_wrong_one_is_refused(release: Release) -> None:
    release()
    release.write({"Chart.yaml": "apiVersion: v2\nname: sample\nversion: 1.1.0\n"})
    assert "is sample-1.1.0, wanted is version 1.0.0" in message(release(version="1.0.0"))
    done = release(version="1.1.0")
    assert "chart sample-1.0.0 becomes sample-1.1.0" in done["actions"][0]
    assert done["release"]["chart"] == "sample-1.1.0"


def kill_helm_in_its_hook(release: Release, *, install: bool) -> None:
    """helm dies while its hook runs: the release stays pending."""
    release.write({"templates/hook.yaml": HOOK})
    where = f"/apis/batch/v1/namespaces/{release.namespace}/jobs/sample-hook"
    if release.cluster.find(where) is not None:
        release.cluster.call("DELETE", f"{where}?propagationPolicy=Background")
    command = ["install" if install else "upgrade", "sample", str(release.chart), "--namespace", release.namespace]
    command += ["--create-namespace"] if install else []
    process = subprocess.Popen(
        [release.cluster.helm, "--kubeconfig", release.cluster.kubeconfig(), *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 20
    while release.cluster.find(where) is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (release.chart / "templates/hook.yaml").unlink()


def test_a_release_left_pending_is_put_right(release: Release) -> None:
    kill_helm_in_its_hook(release, install=True)
    assert "pending-install" in release.helm("history", "sample")
    predicted = release(check=True, stuck_after=1)
    assert predicted["changed"]
    assert "put right sample, whose revision 1 is pending-install" in predicted["actions"]
    assert "pending-install" in release.helm("history", "sample")
    done = release(stuck_after=1)
    assert "remove what is left of sample: pending-install was interrupted" in done["actions"]
    assert done["release"]["status"] == "deployed"
    assert unchanged(release())

    kill_helm_in_its_hook(release, install=False)
    assert "pending-upgrade" in release.helm("history", "sample")
    done = release(stuck_after=1, values={"greeting": "bye"})
    assert "roll sample back to revision 1: pending-upgrade was interrupted" in done["actions"]
    assert done["release"]["status"] == "deployed"
    assert release.get("configmaps")["data"] == {"greeting": "bye"}
    assert unchanged(release(values={"greeting": "bye"}))


def test_a_failed_release_is_upgraded(release: Release) -> None:
    release.write({"templates/hook.yaml": HOOK})
    assert "failed" in message(release(timeout=1))
    assert '"failed"' in release.helm("history", "sample", "-o", "json")
    (release.chart / "templates/hook.yaml").unlink()
    done = release()
    assert "revision 1 is failed" in done["actions"][0]
    assert done["release"]["status"] == "deployed"
    assert unchanged(release())


def test_rollback_makes_one_revision_and_then_none(release: Release) -> None:
    release()
    release(values={"greeting": "bye"})
    predicted = release(check=True, state="rollback", revision=1)
    done = release(state="rollback", revision=1)
    assert (done["actions"], done["diff"]) == (predicted["actions"], predicted["diff"])
    assert done["release"]["revision"] == 3
    assert release.get("configmaps")["data"] == {"greeting": "hello"}
    assert unchanged(release(state="rollback", revision=1))
    assert unchanged(release())
    assert "has no revision 9 to roll back to; it has 1, 2, 3" in message(release(state="rollback", revision=9))


def test_absent_removes_and_then_does_nothing(release: Release) -> None:
    assert unchanged(release(state="absent"))
    release()
    predicted = release(check=True, state="absent")
    assert release.get("configmaps") is not None
    done = release(state="absent")
    assert (done["actions"], done["diff"]) == (predicted["actions"], predicted["diff"])
    assert "kind: DaemonSet" in done["diff"]["before"]
    assert done["release"] is None
    assert release.get("configmaps") is None
    assert unchanged(release(state="absent"))


def test_gives_up_naming_the_pod_and_its_reason_and_says_it_again(release: Release) -> None:
    for _ in range(2):
        said = message(release(values={"image": "crash"}, timeout=3))
        assert "Not rolled out after 3 s" in said
        assert f"DaemonSet {release.namespace}/sample has 0 of 1 pods available" in said
        assert f"waits (CrashLoopBackOff), it ended with exit code 1: {LAST_WORDS}" in said
    assert len(json.loads(release.helm("history", "sample", "-o", "json"))) == 1
    assert release(values={"image": "crash"}, wait=False)["changed"] is False
    assert release()["changed"]
    said = message(release(values={"image": "slow"}, timeout=3))
    assert "ImagePullBackOff" in said


def test_a_dead_node_is_warned_of_and_not_waited_for(release: Release, cluster: Cluster) -> None:
    cluster.node_status({}, ready=False)
    try:
        done = release(values={"image": "slow"})
    finally:
        cluster.node_status({})
    assert done["changed"]
    (warning,) = done["warnings"]
    assert "not waited for node node-a, which is not Ready" in str(warning)
    assert "ImagePullBackOff" in message(release(values={"image": "slow"}, timeout=2))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (
            {"namespace": "default"},
            "The chart refuses (sample/templates/daemonset.yaml): not in namespace default, please",
        ),
        ({"create_namespace": False}, "does not exist: make it, or set create_namespace: true"),
        ({"chart": "/nowhere/chart"}, "Chart /nowhere/chart does not exist"),
        ({"chart": "sample"}, "neither a directory nor an archive"),
        ({"chart": "sample", "repo": "http://127.0.0.1:9/charts"}, "give version"),
        ({"chart": "sample", "repo": "http://127.0.0.1:9/c", "version": "1.0.0"}, "cannot be fetched"),
        ({"chart": "oci://127.0.0.1:9/sample", "version": "1.0.0"}, "cannot be fetched"),
        ({"helm_binary": "/nowhere/helm"}, "The helm binary /nowhere/helm is not there"),
        ({"helm_binary": "/bin/true"}, "does not say which helm it is"),
        ({"values": {"word": {"a": ["}}{{"]}, "greeting": "'"}}, "helm upgrade failed: "),
        ({"state": "rollback"}, "revision"),
        ({"context": "other"}, "has no context other: it has main"),
    ],
)
def test_bad_input_is_one_sentence_and_touches_nothing(release: Release, params: dict[str, Any], words: str) -> None:
    said = message(release(**params))
    assert words in said
    assert "\n" not in said
    assert release.cluster.find(f"/api/v1/namespaces/{release.namespace}") is None
    assert release.cluster.find("/api/v1/namespaces/default/configmaps/sample") is None


def test_helm_missing_from_the_path_says_what_to_give(release: Release) -> None:
    said = message(release(helm_binary=None, env={"PATH": "/nowhere"}))
    assert "not on the PATH" in said
    assert "helm_binary" in said


def test_an_object_of_someone_else_is_named(release: Release, cluster: Cluster) -> None:
    cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": release.namespace}})
    where = f"/api/v1/namespaces/{release.namespace}/configmaps"
    cluster.call("POST", where, {"metadata": {"name": "sample"}, "data": {"mine": "yes"}})
    assert "exists already and does not belong to this release" in message(release())
    assert release.get("configmaps")["data"] == {"mine": "yes"}


def test_a_user_without_permission_is_told_the_verb(release: Release, cluster: Cluster) -> None:
    release()
    said = message(release(kubeconfig=cluster.kubeconfig("weak")))
    assert 'does not let user "weak" list secrets in the namespace' in said
    with pytest.raises(urllib.error.HTTPError):
        cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": release.namespace}})


def test_the_lock_of_a_rollout_is_renewed_while_helm_waits_and_helm_stops_when_it_is_lost(release: Release) -> None:
    release.write({"templates/hook.yaml": HOOK})  # a Job that nobody runs: helm waits for it
    lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/helm-test"
    locked = run_module("rollout_lock", kubeconfig=release.cluster.kubeconfig(), name="helm-test", run="r", duration=1)
    renewals: set[str] = set()

    def watch() -> None:
        while len(renewals) < 4:
            renewals.add(release.cluster.find(lease)["spec"]["renewTime"])
            time.sleep(0.05)
        release.cluster.call("DELETE", lease)

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.monotonic()
    said = message(release(lock=locked["lock"], timeout=120))
    watcher.join()
    assert "it was released or deleted. This run changes nothing further" in said
    assert time.monotonic() - started < 60

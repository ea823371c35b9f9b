"""The Helm chart: linted and rendered by Helm itself, valid by the strict schemas of Kubernetes, and within the policy.

Helm and the schemas come as Python packages (helm-python-sdk, kubernetes-validate). No API server is asked here.
"""

from __future__ import annotations

import os
from copy import deepcopy
from typing import Any

import pytest
import yaml

from deploy.conftest import DEPLOY
from deploy.policy import Manifest, pods, violations

CHART = DEPLOY / "kubernetes" / "chart"
VERSIONS = ("1.33", "1.34", "1.35", "1.36", "1.37")
"""From the first with successPolicy in general availability to the newest that the package knows."""
CASES = ("dev", "s3", "gcs", "s3+spot", "gcs+schedule", "s3+tls")

Values = dict[str, Any]


def package(name: str) -> Any:
    """Import a package that CI has; elsewhere skip without it."""
    if os.environ.get("CI") == "true":
        return __import__(name)
    return pytest.importorskip(name)


def values_of(case: str) -> Values:
    """Merge overlays as `helm -f one -f other` does; `schedule` and `tls` switch these on."""
    merged: Values = {}
    for name in case.split("+"):
        if name == "schedule":
            merged |= {"schedule": "0 3 * * 6", "arguments": ["reanalyse", "/data/plan.yaml"]}
        elif name == "tls":
            merged |= {"tls": {"secretName": "run-tls"}, "store": {"secretName": "keys"}}
        else:
            _merge(merged, yaml.safe_load((DEPLOY / "kubernetes" / f"values-{name}.yaml").read_text()))
    return merged


def _merge(into: Values, other: Values) -> None:
    for name, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = deepcopy(value)


def render(values: Values) -> list[Manifest]:
    """Render the chart as `helm template study --namespace genetics` does."""
    helm = package("helm_python")
    chart = helm.Chart.load(CHART)
    chart.validate_schema(values)
    rendered = chart.render(values, name="study", namespace="genetics", revision=3)
    texts = [text for name, text in sorted(rendered.items()) if name.endswith(".yaml")]
    return [manifest for text in texts for manifest in yaml.safe_load_all(text) if manifest]


def job_spec(manifests: list[Manifest]) -> Manifest:
    """Find the spec of the Job, also inside a CronJob."""
    for manifest in manifests:
        if manifest["kind"] == "Job":
            return manifest["spec"]  # type: ignore[no-any-return]
        if manifest["kind"] == "CronJob":
            return manifest["spec"]["jobTemplate"]["spec"]  # type: ignore[no-any-return]
    raise AssertionError("no Job")


@pytest.mark.parametrize("case", CASES)
def test_helm_finds_no_fault(case: str) -> None:
    report = package("helm_python").lint(CHART, values_of(case), strict=True, kube_version="v1.34.0")
    assert report["errors"] == []
    assert [found["error"] for found in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("case", CASES)
def test_manifests_are_valid_and_within_the_policy(case: str) -> None:
    validate = package("kubernetes_validate").validate
    manifests = render(values_of(case))
    for manifest in manifests:
        for version in VERSIONS:
            validate(manifest, version, strict=True)
    assert violations(manifests) == []
    kinds = {manifest["kind"] for manifest in manifests}
    assert kinds >= {"Service", "ServiceAccount", "NetworkPolicy"}
    assert ("CronJob" in kinds) is ("schedule" in case)
    assert ("Job" in kinds) is ("schedule" not in case)


def test_strict_schemas_find_a_typing_mistake() -> None:
    """The check above can fail."""
    kubernetes = package("kubernetes_validate")
    job = next(manifest for manifest in render(values_of("dev")) if manifest["kind"] == "Job")
    job["spec"]["sucessPolicy"] = job["spec"].pop("successPolicy")
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate(job, VERSIONS[0], strict=True)


BREACHES: dict[str, Values] = {
    "may run as root": {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}},
    "has no seccomp profile": {"securityContext": {"runAsNonRoot": True, "runAsUser": 10001}},
    "mounts a token": {"automountServiceAccountToken": True},
    "shares hostNetwork with the node": {"hostNetwork": True},
    "mounts the node's {'path': '/'}": {"volumes": [{"name": "all", "hostPath": {"path": "/"}}]},
    "volume tmp has no limit": {"volumes": [{"name": "tmp", "emptyDir": {}}]},
}
CONTAINER_BREACHES: dict[str, Values] = {
    "can write its root file system": {"securityContext": {"readOnlyRootFilesystem": False}},
    "may gain privileges": {"securityContext": {"privileged": True}},
    "keeps capabilities": {"securityContext": {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}},
    "runs as root": {"securityContext": {"runAsUser": 0}},
    "has no limits": {"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
    "may take memory that was not set aside for it": {"resources": {"limits": {"cpu": "1", "memory": "9Gi"}}},
    "image biolmm:latest is not pinned": {"image": "biolmm:latest"},
    "image registry.example.org:5000/biolmm is not pinned": {"image": "registry.example.org:5000/biolmm"},
}


@pytest.mark.parametrize("breach", [*BREACHES, *CONTAINER_BREACHES])
def test_the_policy_finds_every_breach(breach: str) -> None:
    manifests = render(values_of("dev"))
    pod = next(pod for manifest in manifests for pod in pods(manifest))
    (pod if breach in BREACHES else pod["containers"][0]).update({**BREACHES, **CONTAINER_BREACHES}[breach])
    assert any(found.endswith(breach) for found in violations(manifests))


def test_the_policy_keeps_services_inside_and_roles_out() -> None:
    metadata = {"metadata": {"name": "x"}}
    for kind in ("LoadBalancer", "NodePort"):
        assert violations([{"kind": "Service", "spec": {"type": kind}, **metadata}])
    assert violations([{"kind": "ServiceAccount", **metadata}])
    assert violations([{"kind": "ClusterRole", **metadata}])


def test_the_job_ends_and_says_whether_to_try_again() -> None:
    """The leader's success ends it; the user's mistake (64) fails it at once; evictions do not count; it cannot hang."""
    spec = job_spec(render(values_of("s3")))
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == 4
    assert spec["successPolicy"] == {"rules": [{"succeededIndexes": "0"}]}
    ignore, fail = spec["podFailurePolicy"]["rules"]
    assert (ignore["action"], ignore["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert fail["action"] == "FailJob"
    codes = fail["onExitCodes"]
    assert codes["values"] == [64, 65, 78]
    assert codes["containerName"] == spec["template"]["spec"]["containers"][0]["name"]
    assert spec["activeDeadlineSeconds"] > 0
    assert (spec["backoffLimitPerIndex"], spec["maxFailedIndexes"]) == (10, 0)
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_exit_codes_are_those_of_the_command() -> None:
    from biolmm.cluster import exits

    values = job_spec(render(values_of("dev")))["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"]
    assert {exits.USER_NEVER_RETRY, exits.PARTIAL} <= set(values)
    assert not {exits.RETRY, exits.BUSY, exits.CHECKPOINT, exits.NO_LEADER, exits.DONE} & set(values)


@pytest.mark.parametrize("case", ["dev", "s3+tls", "gcs+schedule"])
def test_the_command_line_is_one_that_biolmm_has(case: str) -> None:
    from biolmm.cli import cli
    from biolmm.cli.cluster import run

    arguments = job_spec(render(values_of(case)))["template"]["spec"]["containers"][0]["args"]
    assert arguments[0] == "run"
    words = arguments[1 : arguments.index("--")]
    known = {name for option in run.params for name in option.opts}
    assert {word for word in words if word.startswith("--")} <= known
    assert ("--leader" in words, "--run-directory" in words) == (("tls" in case), ("tls" not in case))
    assert arguments[arguments.index("--") + 1] in cli.commands


def test_pods_reach_one_another_dns_and_what_is_listed() -> None:
    policy = next(manifest for manifest in render(values_of("s3")) if manifest["kind"] == "NetworkPolicy")["spec"]
    mine = {"app.kubernetes.io/name": "biolmm", "app.kubernetes.io/instance": "study"}
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"from": [{"podSelector": {"matchLabels": mine}}]}]
    _, dns, store = policy["egress"]
    assert {port["port"] for port in dns["ports"]} == {53}
    assert store["to"] == [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}]
    labels = job_spec(render(values_of("s3")))["template"]["metadata"]["labels"]
    assert mine.items() <= labels.items()


REFUSED: dict[str, Values] = {
    "no image": {"image": {"repository": ""}},
    "neither digest nor tag": {"image": {"repository": "x.org/biolmm", "digest": "", "tag": ""}},
    "latest": {"image": {"repository": "x.org/biolmm", "tag": "latest"}},
    "no arguments": {"arguments": []},
    "no storage": {"storage": {"create": False, "existingClaim": ""}},
    "a secret in the values": {"store": {"environment": {"AWS_SECRET_ACCESS_KEY": "x"}}},
    "a misspelt value": {"wokers": 3},
    "root": {"user": 0},
}


@pytest.mark.parametrize("what", REFUSED)
def test_values_that_cannot_be_meant_are_refused(what: str) -> None:
    helm = package("helm_python")
    values = values_of("dev")
    _merge(values, REFUSED[what])
    with pytest.raises(helm.HelmValuesError):
        helm.Chart.load(CHART).validate_schema(values)


def test_the_example_for_the_operator_keeps_to_the_policy() -> None:
    text = (DEPLOY / "kubernetes" / "examples" / "daskcluster.yaml").read_text()
    cluster, scaler, policy = yaml.safe_load_all(text)
    assert [breach for breach in violations([cluster]) if "makes no" not in breach] == []
    assert (cluster["apiVersion"], scaler["kind"]) == ("kubernetes.dask.org/v1", "DaskAutoscaler")
    for part, program in (("worker", "worker"), ("scheduler", "scheduler")):
        assert cluster["spec"][part]["spec"]["containers"][0]["command"] == ["dask", program]
    package("kubernetes_validate").validate(policy, VERSIONS[-1], strict=True)

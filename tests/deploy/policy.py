"""What every pod of ours has to keep to, checked on rendered manifests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Manifest = dict[str, Any]

KINDS = {"Job", "CronJob", "Service", "ServiceAccount", "NetworkPolicy", "PersistentVolumeClaim"}
"""What the chart may make: no roles, no cluster-wide objects, nothing that others could be admitted by."""


def violations(manifests: list[Manifest]) -> list[str]:
    """Return every breach in words; none for what may be deployed."""
    found = []
    for manifest in manifests:
        kind = manifest["kind"]
        where = f"{kind} {manifest['metadata']['name']}"
        if kind not in KINDS:
            found.append(f"{where}: the chart makes no {kind}")
        if kind == "Service" and manifest["spec"].get("type", "ClusterIP") != "ClusterIP":
            found.append(f"{where}: reachable from outside")
        if kind == "ServiceAccount" and manifest.get("automountServiceAccountToken") is not False:
            found.append(f"{where}: mounts a token")
        found += [f"{where}: {breach}" for pod in pods(manifest) for breach in _pod(pod)]
    return found


def pods(manifest: Manifest) -> Iterator[Manifest]:
    """Give the specs of the pods that a manifest makes: of a Job, a CronJob, the operator's workers and scheduler."""
    spec = manifest.get("spec", {})
    if manifest["kind"] == "Job":
        yield spec["template"]["spec"]
    elif manifest["kind"] == "CronJob":
        yield spec["jobTemplate"]["spec"]["template"]["spec"]
    elif manifest["kind"] == "DaskCluster":
        yield from (spec[part]["spec"] for part in ("worker", "scheduler"))


def _pod(pod: Manifest) -> Iterator[str]:
    security = pod.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
        yield "may run as root"
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "has no seccomp profile"
    if pod.get("automountServiceAccountToken") is not False:
        yield "mounts a token"
    yield from (f"shares {name} with the node" for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name))
    yield from (f"mounts the node's {volume['hostPath']}" for volume in pod.get("volumes", []) if "hostPath" in volume)
    for volume in pod.get("volumes", []):
        if "emptyDir" in volume and not volume["emptyDir"].get("sizeLimit"):
            yield f"volume {volume['name']} has no limit"
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        yield from (f"container {container['name']}: {breach}" for breach in _container(container))


def _container(container: Manifest) -> Iterator[str]:
    security = container.get("securityContext", {})
    if security.get("readOnlyRootFilesystem") is not True:
        yield "can write its root file system"
    if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
        yield "may gain privileges"
    if security.get("capabilities", {}) != {"drop": ["ALL"]}:
        yield "keeps capabilities"
    if security.get("runAsUser") == 0 or security.get("runAsNonRoot") is False:
        yield "runs as root"
    resources = container.get("resources", {})
    for kind in ("requests", "limits"):
        if not {"cpu", "memory"} <= set(resources.get(kind, {})):
            yield f"has no {kind}"
    if resources.get("requests", {}).get("memory") != resources.get("limits", {}).get("memory"):
        yield "may take memory that was not set aside for it"
    image = container["image"]
    if "@sha256:" not in image and (":" not in image.rsplit("/", 1)[-1] or image.endswith(":latest")):
        yield f"image {image} is not pinned"

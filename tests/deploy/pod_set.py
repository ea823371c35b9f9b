"""Run the pods of a rendered Indexed Job with podman: what the kubelet does with a container, without an API server.

Each index is a container with the user, the read-only root, the capabilities, the limits, the mounts and the arguments of the
manifest. The test plays the Job controller: it starts another container where one has failed. Pods share the machine's
network, so the headless Service and the NetworkPolicy are not tried.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biolmm.cluster.ranks import own_address


@dataclass(frozen=True)
class PodSet:
    """The pods of a Job named `name`, with the claim's files in `data`."""

    name: str
    pod: dict[str, Any]
    image: str
    data: Path

    def start(self, index: int, life: int = 0) -> str:
        """Start the pod of an index; return the container's name."""
        name = f"{self.name}-{index}-{life}"
        podman("run", "--detach", "--name", name, *self.flags(index), self.image, *self._arguments())
        return name

    def remove(self) -> None:
        """Remove every container of this set."""
        names = podman("ps", "--all", "--filter", f"name=^{self.name}-", "--format", "{{.Names}}").split()
        if names:
            podman("rm", "--force", "--time", "0", *names)

    def flags(self, index: int) -> list[str]:
        """Translate the manifest of a pod into options of `podman run`."""
        container = self.pod["containers"][0]
        security, limits = container["securityContext"], container["resources"]["limits"]
        user = self.pod["securityContext"]
        flags = [
            "--network=host",
            f"--user={user['runAsUser']}:{user['runAsGroup']}",
            "--security-opt=no-new-privileges",
        ]
        flags += [f"--cap-drop={capability}" for capability in security["capabilities"]["drop"]]
        flags += ["--read-only", "--read-only-tmpfs=false"] if security["readOnlyRootFilesystem"] else []
        flags += [f"--memory={re.sub('i$', '', limits['memory']).lower()}"]
        for mount in container["volumeMounts"]:
            flags += self._mount(mount["name"], mount["mountPath"])
        for variable in self._environment(index).items():
            flags += ["--env", "=".join(variable)]
        return flags

    def _mount(self, name: str, path: str) -> list[str]:
        volume = next(volume for volume in self.pod["volumes"] if volume["name"] == name)
        if "emptyDir" in volume:
            size = re.sub("i$", "", volume["emptyDir"]["sizeLimit"]).lower()
            return ["--tmpfs", f"{path}:rw,size={size},mode=1777"]
        return ["--volume", f"{self.data}:{path}:rw"]

    def _environment(self, index: int) -> dict[str, str]:
        """Give what the controller and the downward API set."""
        return {"JOB_COMPLETION_INDEX": str(index), "JOB_NAME": self.name, "POD_IP": own_address()}

    def _arguments(self) -> list[str]:
        arguments = self.pod["containers"][0]["args"]
        return [argument.replace("$(JOB_NAME)", self.name) for argument in arguments]


def podman(*words: str, check: bool = True) -> str:
    """Run podman; return what it printed.

    Raises
    ------
    RuntimeError
        When it fails, with what it said.
    """
    done = subprocess.run(["podman", *words], capture_output=True, text=True, check=False, timeout=300)
    if check and done.returncode:
        raise RuntimeError(f"podman {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def exit_code(name: str, seconds: int = 200) -> int:
    """Wait for a container's end."""
    done = subprocess.run(["podman", "wait", name], capture_output=True, text=True, check=True, timeout=seconds)
    return int(done.stdout)


def logs(name: str) -> str:
    """Read what a container printed."""
    done = subprocess.run(["podman", "logs", name], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr

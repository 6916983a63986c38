"""What the containers may do, and what Docker gives away about them."""

import json
import re
import subprocess
from pathlib import Path

from orderlog_stack.report import Failure

ASKED_WITHIN_S = 30
SECRET_CHARACTERS_MIN = 20
PEM_LINE = re.compile(r"-----.*-----")


def require_confined(project):
    """Every process runs as somebody else than root, gains no privileges and has no capabilities; ours have a read-only
    file system besides, tried by writing. Returns one line per service."""
    ours = set(project.our_services())
    lines = []
    for service, container in sorted(project.containers().items()):
        host = container["HostConfig"]
        faults = [fault for fault, found in (
            ("capabilities are kept", "ALL" not in (host["CapDrop"] or [])),
            ("privileges may be gained", "no-new-privileges:true" not in (host["SecurityOpt"] or [])),
            ("the memory is not limited", not host["Memory"] and container["State"]["Running"]),
            ("the file system can be written", service in ours and container["State"]["Running"]
             and _can_write(project, container)),
        ) if found]
        user = _user(container)
        if user == "0":
            faults.append("it runs as root")
        if faults:
            raise Failure(f"{service}: {', '.join(faults)}")
        lines.append(f"{service:<18} user {user or container['Config']['User']:<8} "
                     f"{'read-only' if host['ReadonlyRootfs'] else ''}")
    return lines


def _user(container):
    """The user id of the running main process; empty when it does not run."""
    pid = container["State"]["Pid"]
    if not pid:
        return ""
    status = Path(f"/proc/{pid}/status").read_text()
    return re.search(r"^Uid:\s+(\d+)", status, re.MULTILINE).group(1)


def _can_write(project, container):
    done = subprocess.run([project.engine.docker, "exec", container["Id"], "touch", "/written"],
                          env=project.engine.environment, capture_output=True, text=True, timeout=ASKED_WITHIN_S)
    return done.returncode == 0 or "Read-only file system" not in done.stderr


def require_kept_secrets(project, secret_files, tags):
    """No part of any secret file is in what `docker inspect` says of a container or an image, or in an image's history.
    Returns how many secrets were looked for."""
    secrets = {line.strip() for text in secret_files for line in text.splitlines()
               if len(line.strip()) >= SECRET_CHARACTERS_MIN and not PEM_LINE.match(line)}
    if not secrets:
        raise Failure("no secrets were found to look for")
    told = [json.dumps(container) for container in project.containers().values()]
    for tag in tags:
        told.append(project.engine.run("image", "inspect", tag))
        told.append(project.engine.run("history", "--no-trunc", tag))
    for secret in secrets:
        if any(secret in text for text in told):
            raise Failure("docker inspect or docker history tells a secret")
    return len(secrets)

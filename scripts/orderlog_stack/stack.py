"""What each command of `scripts/stack` does."""

import shlex
import shutil
import time

from . import probes, processes, services
from .components import THIRD_PARTY
from .gateway import Gateway, tell_nodes
from .home import NODES_MAX
from .report import Failure, log_tail, say

LOG_LINES_SHOWN = 200


def up(home, nodes, components_only):
    """Starts what does not run yet; returns when everything is ready. `nodes` None: as many as there are."""
    begun = time.monotonic()
    home.create()
    with home.lock("stack"):
        if not components_only:
            services.build(home)
        start_all(home, [component(home) for component in THIRD_PARTY])
        if not components_only:
            if nodes:
                _want_nodes(home, nodes)
            _start_services(home)
    say(f"up after {time.monotonic() - begun:.1f} s (logs in {home.logs})")


def _want_nodes(home, count):
    home.remember("nodes", count)
    for name in services.nodes(home)[count:]:
        say(f"  stopping {name}")
        stop(home, name)
    tell_nodes(home)


def _start_services(home):
    names = _services(home)
    if any(processes.state(home, name) != "running" for name in names):
        services.prepare(home)
    start_all(home, [component_of(home, name) for name in names])
    services.create_admin(home)  # also when all ran already: an earlier `up` may have been interrupted before it


def start_all(home, components):
    """Starts several at once, each when those it needs are ready; returns when all are."""
    for component in components:
        component.fetch()
    launched = []
    for component in components:
        if component.after:
            for earlier in [other for other in launched if other.name in component.after]:
                _await(home, earlier)
                launched.remove(earlier)
        with home.lock(component.name):
            _launch(home, component)
        launched.append(component)
    for component in launched:
        _await(home, component)


def _launch(home, component):
    state = processes.state(home, component.name)
    component.fresh = state in ("stopped", "dead")
    if state == "paused":
        processes.resume(home, component.name)
    if component.fresh:
        for port in filter(probes.taken, component.ports()):
            raise Failure(
                f"port {port}, which {component.name} needs, is taken by another process: "
                "stop that, or give this stack other ports: scripts/stack reset, which deletes its data, "
                "then ORDERLOG_PORT_BASE=… scripts/stack up"
            )
        component.prepare()
        processes.launch(home, component.name, component.command(), component.environment())


def _await(home, component):
    waited_s = processes.await_ready(home, component.name, component.not_ready, component.ready_within_s)
    if component.fresh:
        component.became_ready()
        say(f"  {component.name} ready after {waited_s:.1f} s on {component.address}")


def start(home, name):
    """Starts one process and waits until it is ready."""
    component = component_of(home, name)
    with home.lock(name):
        _launch(home, component)
    tell_nodes(home)
    _await(home, component)


def stop(home, name):
    """SIGTERM, after a while SIGKILL; returns when it is gone."""
    component = component_of(home, name)
    with home.lock(name):
        processes.stop(home, name, component.stop_signal, component.stop_within_s)
    tell_nodes(home)


def down(home):
    """Stops everything, last started first. The data stays."""
    with home.lock("stack"):
        for name in reversed(names(home)):
            if processes.state(home, name) in ("running", "paused"):
                say(f"  stopping {name}")
            stop(home, name)


def reset(home):
    """Stops everything and deletes data, logs and secrets."""
    down(home)
    for directory in (home.data, home.logs, home.run, home.secrets):
        shutil.rmtree(directory, ignore_errors=True)
    home.forget()


def status(home):
    """One line per process: name, state, pid, address."""
    print(f"{'NAME':<15}{'STATE':<10}{'PID':<9}ADDRESS")
    for name in names(home):
        state = processes.state(home, name)
        process = processes.started(home, name)
        pid = process.pid if process and state in ("running", "paused") else "-"
        print(f"{name:<15}{state:<10}{pid:<9}{home.address(name)}")


def reload(home, name):
    """Has a service read its files anew."""
    if not component_of(home, name).reads_anew:
        raise Failure(f"{name} reads nothing anew: restart it with scripts/stack stop and start")
    processes.reload(home, name)


def logs(home, name):
    """The end of a process's log."""
    component_of(home, name)
    if not home.log(name).exists():
        raise Failure(f"{name} has no log yet")
    for line in log_tail(home.log(name), LOG_LINES_SHOWN):
        print(line)
    say(f"whole log: {home.log(name)}")


def env(home):
    """`export NAME=value` lines for everything a client, a test or a tool of this stack needs."""
    for variable, value in services.settings(home).items():
        print(f"export {variable}={shlex.quote(value)}")


def names(home):
    """Every process of this stack in the order they start."""
    third_party = [component.name for component in THIRD_PARTY]
    return [*third_party, *_services(home)]


def _services(home):
    return ["spans", "providers", *services.nodes(home), "projections", "notifier", Gateway.name]


def component_of(home, name):
    """The component or service of that name."""
    known = {component.name: component for component in
             (*THIRD_PARTY, services.Spans, services.Providers, services.Projections, services.Notifier, Gateway)}
    if name in known:
        return known[name](home)
    if name in services.command_apis(NODES_MAX):
        return services.CommandApi(home, name)
    raise Failure(f"there is no process named {name!r}; scripts/stack status lists them")

"""The node killed at every step of pods' lives, one after the other: before its first mount, its second rename, … until a whole life passes without
the moment being met. Each time all must be as if nothing had happened, and nothing may be left behind.

By default a seeded choice of the moments; TIDEMILL_CRASH_POINTS=all takes every one, =mount,rename all of these operations, =mount:17 just that one."""

import os
import random

import pytest

from conftest import wait_for
from node_alone import PODS, Node
from test_crash import STAY, brief, container, is_ready, pod, prepare, rich_spec, starts, state

SEED = int(os.environ.get("TIDEMILL_CRASH_SEED", "0")) or random.randrange(1, 1 << 30)
WANTED = os.environ.get("TIDEMILL_CRASH_POINTS", "")
POINTS_DEFAULT = 6
# What the node does in the life below, and about how often: only for the choice.
OPERATIONS = {"write": 180, "rename": 80, "remove": 210, "mkdir": 55, "mount": 19, "unmount": 28, "netlink": 20, "nftables": 2, "spawn": 24,
              "spawned": 24, "send": 34, "cgroup": 54}
LOG = "".join(f"line {i}\n" for i in range(1, 21))


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    plan = tmp_path_factory.mktemp("plan") / "plan"
    with Node({"TIDEMILL_FAULTS": str(plan)}) as instance:
        instance.plan = plan
        prepare(instance)
        yield instance


def live(node, name):
    """Two pods from their creation to their end: one that ends by itself, one that restarts once and is deleted. What is wrong, or nothing."""
    job, rich = f"job-{name}", f"rich-{name}"
    spec = rich_spec(node, main="[ $(wc -l < /count/$me) -gt 1 ] || exit 3; " + STAY, own_users=True)
    node.create(PODS, pod(node, job, [container("main", "for i in $(seq 20); do echo line $i; done; exit 7")], restartPolicy="Never"),
                {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": rich, "labels": {"app": "web"}}, "spec": spec})
    node.wait_pods(lambda pods: pods[job]["status"].get("phase") in ("Failed", "Succeeded") and is_ready(pods[rich]) and state(pods, rich)["restartCount"] > 0,
                   f"the pods of point {name}", 40)
    wait_for(lambda: starts(node, rich) == 2, "the second run to count itself")
    pods, wrong = node.pods(), []
    ended, ran = state(pods, job), state(pods, rich)
    if (ended["state"]["terminated"]["exitCode"], ended["restartCount"], starts(node, job), node.log_of(job)) != (7, 0, 1, LOG):
        wrong.append((starts(node, job), node.log_of(job), brief(pods[job])))
    if (ran["lastState"]["terminated"]["exitCode"], ran["restartCount"], starts(node, rich)) != (3, 1, 2):
        wrong.append((starts(node, rich), brief(pods[rich])))
    for which in ("init", "side"):
        if (state(pods, rich, which)["restartCount"], starts(node, rich, which)) != (0, 1):
            wrong.append((which, starts(node, rich, which), state(pods, rich, which)))
    node.delete(f"{PODS}/{rich}", 5)
    node.delete(f"{PODS}/{job}")
    node.wait_pods(lambda pods: not pods, f"the pods of point {name} to go", 40)
    if (node.dir / "count/overlap").exists():
        wrong.append("ran twice at once")
    return wrong


def life(node, operation, number):
    """One with the node killed before its number-th operation of that kind. Whether it came that far."""
    node.plan.write_text(f"die {operation} {number}\n", encoding="ascii")
    wrong = live(node, f"{operation}-{number}")
    met = not node.plan.exists()
    node.plan.unlink(missing_ok=True)
    assert not wrong, f"{operation}:{number}: {wrong}\n{node.node_log()[-3000:]}"
    return met


def moments():
    """Pairs of operation and number; with None for the number: 1, 2, … until one is not met."""
    if not WANTED:
        chosen = random.Random(SEED)
        for operation in chosen.sample(sorted(OPERATIONS), POINTS_DEFAULT):
            yield operation, chosen.randrange(1, OPERATIONS[operation] + 1)
    for each in sorted(OPERATIONS) if WANTED == "all" else WANTED.split(",") if WANTED else []:
        operation, _, number = each.partition(":")
        yield operation, int(number) if number else None


def test_killed_at_every_step(node):
    assert not live(node, "warm")
    before, met = node.traces(), []
    for operation, wanted in moments():
        number, goes_on = wanted or 1, True
        while goes_on:
            goes_on = life(node, operation, number)
            met += [f"{operation}:{number}"] if goes_on else []
            try:
                node.check_leaks(before)
            except AssertionError as error:
                raise AssertionError(f"TIDEMILL_CRASH_POINTS={operation}:{number} {error}") from None
            number, goes_on = number + 1, goes_on and not wanted
    print(f"TIDEMILL_CRASH_SEED={SEED} TIDEMILL_CRASH_POINTS={','.join(met)}")
    assert len(met) >= POINTS_DEFAULT // 2 or WANTED, "most moments were never met"

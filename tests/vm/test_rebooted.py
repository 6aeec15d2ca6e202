"""After a restart of the machine that test_machine.py has left pods on."""

import pathlib

from test_machine import get, group, inside, pid, status, unit, wait_for


def test_the_pods_come_back():
    wait_for(lambda: unit("ActiveState") == "active", "the unit")
    for name in ("limited", "users"):
        found = wait_for(lambda: status(name)["ready"] and status(name)["restartCount"] == 1 and status(name), f"{name} to run again", 1200)
        assert found["lastState"]["terminated"]["exitCode"] in (137, 143, 255), found
    assert status("once")["restartCount"] == 0 and get("pod", "once")["status"]["phase"] == "Succeeded"
    assert (group("limited") / "memory.max").read_text().strip() == str(64 << 20)
    assert pathlib.Path(f"/proc/{pid('limited')}/attr/current").read_text().startswith("tidemill-default (enforce)")
    assert inside("users", "echo it runs").stdout == "it runs\n"

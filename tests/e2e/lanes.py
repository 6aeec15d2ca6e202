"""`pytest --lanes 2`: the test files run in several lanes at once, for end-to-end tests wait more than they compute.

A lane is a fork of pytest after collection, with instances' names and addresses of its own (TIDEMILL_TEST_SUFFIX, TIDEMILL_TEST_OFFSET). It takes the next file that nobody
has taken, so a lane with short files takes more of them; fixtures of the session are made once a lane. Reports go to the parent, whose output is that of any run of pytest:
dots, failures, skips, -x, --durations, --lf. Files marked `pytestmark = pytest.mark.alone` (they fill memory or disk, or count what the whole machine does) come last, one after another."""

import collections
import contextlib
import itertools
import multiprocessing
import multiprocessing.connection
import os

import pytest
from _pytest import runner

NUMBERS = 58  # of addresses for one lane: see Platform in conftest.py


def pytest_addoption(parser):
    parser.addoption("--lanes", type=int, default=1, help="how many test files run at once")


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: the file needs the machine for itself")
    config.addinivalue_line("markers", "first: the file takes long and had better begin early")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session):
    lanes = session.config.option.lanes
    if lanes < 2 or session.config.option.collectonly or session.testsfailed:
        return None  # as pytest does it
    files = collections.defaultdict(list)
    for item in session.items:
        files[item.path].append(item)
    beside = sorted((items for items in files.values() if not items[0].get_closest_marker("alone")), key=lambda items: not items[0].get_closest_marker("first"))
    run_lanes(session, lanes, beside)
    alone = [item for items in files.values() if items[0].get_closest_marker("alone") for item in items]
    for item, following in with_next(alone):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        stop_when_told(session)
    return True


def with_next(items):
    """Each with the one after it, and the last with None: pytest takes down what that one does not use."""
    ahead = iter(items)
    item = next(ahead, None)
    while item is not None:
        following = next(ahead, None)
        yield item, following
        item = following


def stop_when_told(session):
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)


def run_lanes(session, count, files):
    """The parent: forks, and hands on what the lanes report."""
    queue, fill = os.pipe()  # one byte for each file: who reads it has taken the file
    os.write(fill, bytes(range(len(files))))
    os.close(fill)
    lanes, busy = {}, {}
    for number in range(count):
        ours, theirs = multiprocessing.Pipe()
        pid = os.fork()
        if pid == 0:
            for other in [ours, *lanes]:
                other.close()
            lane(session, number, theirs, queue, files)
        theirs.close()
        lanes[ours] = pid
    try:
        while lanes:
            for connection in multiprocessing.connection.wait(list(lanes)):
                if not receive(session, connection, busy):
                    _, status = os.waitpid(lanes.pop(connection), 0)
                    assert status == 0, f"a lane ended with status {status:#x} in {busy.get(connection)}"
            stop_when_told(session)
    finally:
        os.close(queue)
        for connection, pid in lanes.items():  # stopped early: each finishes its test and takes its platforms down
            connection.close()
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def receive(session, connection, busy):
    try:
        kind, value = connection.recv()
    except (EOFError, ConnectionResetError):
        return False
    if kind == "start":
        busy[connection] = value[0]
        session.config.hook.pytest_runtest_logstart(nodeid=value[0], location=value[1])
    else:
        session.config.hook.pytest_runtest_logreport(report=session.config.hook.pytest_report_from_serializable(config=session.config, data=value))
    return True


class Reporter:
    def __init__(self, config, connection):
        self.config, self.connection = config, connection

    def pytest_runtest_logstart(self, nodeid, location):
        self.connection.send(("start", (nodeid, location)))

    def pytest_runtest_logreport(self, report):
        self.connection.send(("report", self.config.hook.pytest_report_to_serializable(config=self.config, report=report)))


def lane(session, number, connection, queue, files):
    """The child: runs files until none is left or the parent is gone; never returns."""
    status = 1
    try:
        config = session.config
        config.pluginmanager.unregister(name="terminalreporter")
        config.pluginmanager.register(Reporter(config, connection))
        capture = config.pluginmanager.getplugin("capturemanager")
        capture.stop_global_capturing()  # its file is shared with the parent
        capture.start_global_capturing()
        capture.suspend_global_capture()
        if number:
            os.environ["TIDEMILL_TEST_SUFFIX"] = os.environ.get("TIDEMILL_TEST_SUFFIX", "") + "abcdefgh"[number]
            os.environ["TIDEMILL_TEST_OFFSET"] = str(int(os.environ.get("TIDEMILL_TEST_OFFSET", "0")) - NUMBERS * number)
        taken = iter(lambda: os.read(queue, 1), b"")
        items = itertools.chain.from_iterable(files[index[0]] for index in taken)
        try:
            for item, following in with_next(items):
                if connection.poll():
                    break
                config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        finally:
            runner.pytest_sessionfinish(session)  # a lane that stops early still has fixtures
        status = 0
    except (KeyboardInterrupt, BrokenPipeError):
        status = 0
    except BaseException:  # whatever it is: said here, and the parent fails
        session.config.notify_exception(pytest.ExceptionInfo.from_current())
    finally:
        connection.close()
        os._exit(status)

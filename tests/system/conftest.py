"""Fixtures: a place of its own for each test, the endpoint, the oracle, the agent, writers.

Options of the endpoint are said with @pytest.mark.endpoint(…).  At the end of a test that did well
the agent, if it is still running, must end cleanly; a test that failed shows the agent's log."""
import os
import pathlib
import random
import shutil
import tempfile

import pytest

from harness import BINARY, PATIENCE, SEED, Agent, Endpoint, Quill, eventually
from oracle import Oracle, records
from writer import Writer


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes more than ten seconds (see --durations=10)")
    config.addinivalue_line("markers", "endpoint(**options): how the test's endpoint is to be")
    config.addinivalue_line("markers", "subject(names): whom the endpoint's certificate is for")


def pytest_report_header():
    return f"kinetail: {BINARY}{'' if BINARY.exists() else ' (MISSING)'}, KT_SEED={SEED}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if call.when == "call":
        item.failed = report.failed
    if report.failed and call.when != "setup":
        keeper = getattr(item, "funcargs", {}).get("agent")
        if keeper is not None:
            report.sections.append(("kinetail's log", keeper.tail(6000)))
            if keeper.starts > 1:
                report.sections.append(("its complaints in all starts", keeper.history()))


@pytest.fixture
def dice(request):
    """Random, and the same again for the same KT_SEED and test."""
    return random.Random(f"{SEED}/{request.node.name}")


@pytest.fixture
def place():
    """A directory of its own, which anyone may enter."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="kinetail-test-"))
    path.chmod(0o755)
    yield path
    if os.environ.get("KT_KEEP") != "1":
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def logs(place):
    path = place / "logs"
    path.mkdir(mode=0o755)
    return path


@pytest.fixture
def serve(place):
    """serve(**options): an Endpoint, ended with the test."""
    running = []

    def start(**options):
        options.setdefault("name", f"endpoint{len(running)}" if running else "endpoint")
        running.append(Endpoint(place, **options))
        return running[-1]

    yield start
    for one in running:
        one.stop()


@pytest.fixture
def endpoint(request, serve):
    """An Endpoint; @pytest.mark.endpoint(**options) says how it is to be."""
    mark = request.node.get_closest_marker("endpoint")
    return serve(**(mark.kwargs if mark else {}))


@pytest.fixture
def oracle(endpoint):
    return Oracle(endpoint.record_file)


@pytest.fixture
def agent(request, place, endpoint):
    if not BINARY.exists():
        pytest.fail(f"{BINARY} is not there: run make, or say KINETAIL=…", pytrace=False)
    one = Agent(place, endpoint)
    yield one
    try:
        if not getattr(request.node, "failed", False):
            one.finish()
    finally:
        one.abandon()


@pytest.fixture
def wait_until_delivered(agent, oracle):
    """wait_until_delivered(n): until n different lines have arrived; without n, all of them."""
    def wait(count=None, timeout=60.0):
        return oracle.wait(count, timeout * PATIENCE,
                           alive=agent.alive if agent.process is not None else None)
    return wait


@pytest.fixture
def writer(place, oracle):
    """writer(path, **options): a paced Writer process, ended with the test."""
    running = []

    def start(path, **options):
        options.setdefault("name", f"w{len(running)}")
        running.append(Writer(path, oracle, place, **options))
        return running[-1]

    yield start
    for one in running:
        one.abandon()


@pytest.fixture
def quill(oracle):
    """quill(path, id=None): a Quill; ids are q0, q1, …"""
    made = []

    def open_quill(path, file_id=None, mode="ab"):
        made.append(Quill(path, oracle, file_id or f"q{len(made)}", mode))
        return made[-1]

    yield open_quill
    for one in made:
        one.close()


@pytest.fixture
def arrived(endpoint, agent):
    """arrived(n): the first n records as bytes, in the order of arrival."""
    def wait(count, timeout=30):
        return eventually(lambda: (lambda found: found if len(found) >= count else None)(
            records(endpoint.record_file)), timeout, what=f"the arrival of {count} records",
            alive=agent.alive)
    return wait

"""A page of another port or site, in the operator's browser, is let in to neither server."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from serving import Up

pytestmark = [pytest.mark.ui, pytest.mark.slow]

PAGE = """<!doctype html><title>foreign</title><script>
const [prefect, mlflow] = ["prefect", "mlflow"].map(
  name => new URLSearchParams(location.search).get(name));
const automation = JSON.stringify({
  name: "foreign", enabled: true,
  trigger: {type: "event", match: {"prefect.resource.id": "prefect.flow-run.*"},
    expect: ["prefect.flow-run.Completed", "prefect.flow-run.Failed"],
    for_each: ["prefect.resource.id"], posture: "Reactive", threshold: 1, within: 0},
  actions: [{type: "run-deployment", source: "inferred", parameters: {},
    job_variables: {command: "touch foreign-page-was-here"}}]});
const experiment = JSON.stringify({name: "foreign"});
async function sent(address, options) {
  try {
    const answer = await fetch(address, {method: "POST", ...options});
    return answer.type === "opaque" ? "opaque" : `read ${answer.status}`;
  } catch (error) { return "refused"; }
}
function socket(address) {
  return new Promise(resolve => {
    const made = new WebSocket(address, ["prefect"]);
    made.onopen = () => resolve("open");
    made.onerror = () => resolve("refused");
  });
}
function script(address) {
  return new Promise(resolve => {
    const made = document.createElement("script");
    made.onload = () => resolve("loaded");
    made.onerror = () => resolve("refused");
    made.src = address;
    document.head.append(made);
  });
}
async function attack() {
  const json = {"Content-Type": "application/json"};
  const here = `${prefect}/api/automations/`;
  const there = `${mlflow}/ajax-api/2.0/mlflow/experiments/create`;
  return {
    untyped: await sent(here, {mode: "no-cors", body: new Blob([automation])}),
    text: await sent(here, {mode: "no-cors", body: automation}),
    json: await sent(here, {headers: json, body: automation}),
    read: await sent(`${prefect}/api/automations/filter`, {headers: json, body: "{}"}),
    socket: await socket(`${prefect.replace("http", "ws")}/api/events/in`),
    script: await script(`${prefect}/api/health`),
    experiment: await sent(there, {headers: json, body: experiment}),
    experimentText: await sent(there, {mode: "no-cors", body: experiment}),
  };
}
</script>"""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[int]:
    """The port of a server of somebody else's page."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(PAGE.encode())

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_foreign_page_changes_and_reads_nothing(
    name: str, elsewhere: int, served: Up, chromium: Any
) -> None:
    """Another port of this machine, which is the same site, and another site."""
    before = {entry["name"] for entry in served.call("/automations/filter", {})}
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"http://{name}:{elsewhere}/?prefect={served.prefect}&mlflow={served.mlflow}")
    result = page.evaluate("attack()")
    context.close()
    # What is sent without asking gives the page no answer; that it changed nothing is seen below.
    blind = {key for key, value in result.items() if value == "opaque"}
    assert blind == {"untyped", "text", "experimentText"}, result
    assert {value for key, value in result.items() if key not in blind} == {"refused"}, result
    assert {entry["name"] for entry in served.call("/automations/filter", {})} == before
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{served.home / 'mlflow.db'}")
    assert client.get_experiment_by_name("foreign") is None


def test_a_link_to_the_pages_from_elsewhere_opens_them(
    elsewhere: int, served: Up, watched: Any
) -> None:
    page = watched.page
    watched.open(f"http://localhost:{elsewhere}/")
    page.evaluate("address => { location.href = address }", served.prefect)
    page.get_by_role("link", name="Deployments").first.wait_for()


def test_prefects_page_loads_nothing_from_outside(served: Up, watched: Any) -> None:
    """Its analytics host is not even asked: the policy blocks it before a request is made."""
    page = watched.page
    with page.expect_console_message(lambda said: "amplitude.com" in said.text) as message:
        watched.open(f"{served.prefect}/v2/dashboard")
    assert "Content Security Policy" in message.value.text
    page.get_by_role("link", name="Deployments").first.wait_for()
    assert watched.outside == []

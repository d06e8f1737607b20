#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prometheus watches a fleet, and what deploy/prometheus and deploy/grafana ask it has an answer.

Every rule is evaluated without an error; every metric that rules and dashboard name is there, with the labels by which they
choose; every query of the dashboard returns something; every alert has a case in tests/deploy/rules_test.yaml in which it
fires, beside the one of a fleet that is well, and promtool finds them right; a model that cannot be loaded makes its alert
fire, and no other does.

Exits 77, saying why, where there is no HAProxy or Prometheus (Debian's packages haproxy and prometheus)."""
import argparse
import json
import re
import subprocess
import tempfile

from local_fleet import DEPLOY, REPOSITORY, Fleet, fail, skip_unless, wait_for

RATE, SECONDS = 30, 60
RULES_TEST = REPOSITORY / "tests/deploy/rules_test.yaml"
SELECTOR = re.compile(r"\b((?:headlight|haproxy|process)_\w+|up|ALERTS)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!=|!~|=)\s*"([^"]*)"')
# What only a fleet that is not well has: that the label is there is looked at, not its value.
NOT_HERE = {("code", "5xx")}


def dashboard_queries():
    """(title of its panel, what is asked, the labels that its legend names)."""
    dashboard = json.loads((DEPLOY / "grafana/headlight.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"].replace("$__rate_interval", "20s").replace("$model", ".*")
            yield panel["title"], query, re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])


def selectors(expression):
    """Of each metric that the expression names, what is looked for: by name, and by label."""
    for name, inside in SELECTOR.findall(expression):
        wanted = []
        for label, operator, value in MATCHER.findall(inside):
            exact = operator == "=" and (label, value) not in NOT_HERE
            wanted.append(f'{label}="{value}"' if exact else f'{label}!=""')
        yield f"{name}{{{', '.join(sorted(wanted))}}}"


def promtool(*arguments):
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        fail(f"promtool {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}")


def check_files():
    promtool("check", "config", DEPLOY / "prometheus/prometheus.yml")
    promtool("check", "rules", "--lint-fatal", DEPLOY / "prometheus/rules.yaml")
    promtool("test", "rules", RULES_TEST)
    cases = RULES_TEST.read_text(encoding="utf-8")
    for alert in re.findall(r"- alert: (\w+)", (DEPLOY / "prometheus/rules.yaml").read_text(encoding="utf-8")):
        if not re.search(rf"alertname: {alert}\n +exp_alerts:\n|alertname=\"{alert}\",alertstate=\"firing\"", cases):
            fail(f"{alert}: no case in which it fires in {RULES_TEST.name}")
        if f"`{alert}`" not in (REPOSITORY / "docs/operations.md").read_text(encoding="utf-8"):
            fail(f"{alert}: docs/operations.md does not say what to do")


def check_rules(fleet):
    """That all have been evaluated without an error. Returns their expressions."""
    def evaluated():
        rules = [rule for group in (fleet.ask("rules") or {"groups": []})["groups"] for rule in group["rules"]]
        return rules if rules and all(rule["health"] != "unknown" for rule in rules) else None

    rules = wait_for("every rule is evaluated", evaluated)
    for rule in rules:
        if rule["health"] != "ok":
            fail(f"rule {rule['name']}: {rule['lastError']}")
    return [rule["query"] for rule in rules]


def check(fleet):
    fleet.make_certificates()
    broken = fleet.folder / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}", encoding="utf-8")
    fleet.start_servers(flags_of_last=["--model", f"broken={broken}"])
    fleet.start_proxy()
    fleet.start_prometheus()
    # Cancelled requests are a reason, of headlight_refusals_total{reason}; through HAProxy servers hear of them too.
    load = fleet.start_load("load", RATE, SECONDS, "--cancel-ratio", "0.2")
    wait_for("Prometheus scrapes all", lambda: len(fleet.query("up == 1")) == fleet.SERVERS + 1)

    wanted = set()
    for expression in check_rules(fleet):
        wanted.update(selectors(expression))
    queries = list(dashboard_queries())
    for _, query, _ in queries:
        wanted.update(selectors(query))
    for selector in sorted(wanted):
        wait_for(f"a series of {selector}", lambda selector=selector: fleet.query(selector))
    for title, query, labels in queries:
        found = wait_for(f"{title}: {query}", lambda query=query: fleet.query(query))
        for label in labels:
            if not all(label in series["metric"] for series in found):
                fail(f"{title}: {query}: its legend has {label}, which the result has not")
        values = [float(series["value"][1]) for series in found]
        print(f"  {title}: {len(found)} series, {min(values):.3g} to {max(values):.3g}")
    wait_for("the alert of the broken model", lambda: fleet.query(
        'ALERTS{alertname="HeadlightModelLoadFailed", alertstate="firing", model="broken"}'))
    others = fleet.query('ALERTS{alertstate="firing", alertname!="HeadlightModelLoadFailed"}')
    if others:
        fail(f"alerts of a fleet that is well: {others}")
    load.terminate()
    print(f"monitoring: {len(wanted)} selectors, {len(queries)} queries of the dashboard")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--client", required=True)
    arguments = parser.parse_args()
    skip_unless("haproxy", "prometheus", "promtool", "openssl")
    check_files()
    with tempfile.TemporaryDirectory() as folder, Fleet(arguments.server, arguments.client, folder) as fleet:
        check(fleet)
    print("monitoring: ok")


if __name__ == "__main__":
    main()

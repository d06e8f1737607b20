// The tables of a load report: of its runs, their latencies and refusals, and of a search.

function table(head, rows) {
  return html(
      'div', {class: 'table'},
      html('table', {}, html('thead', {}, html('tr', {}, head)), html('tbody', {}, rows)));
}

function runCell(runs, i) {
  const key = html('span', {class: 'key'});
  key.style.background = color(i);
  return html('td', {class: 'text'}, key, nameOf(runs[i]));
}
const loadHead = () => html('th', {class: 'text', scope: 'col'}, 'load', html('small', {}, '\u00a0'));

function runsTable(runs) {
  const share = (key) => (run) => {
    const part = (run.server_share || {})[key];
    return isNumber(part) && run.replies !== 0 ? `${format(100 * part)} %` : '–';
  };
  const client = (run) => run.client || {};
  const columns = [
    // name, unit, text of a run, whether it is bad
    ['measured', 's', (run) => format(run.measured_s)],
    ['sent', '', (run) => format(run.sent)],
    ['replies', 'per s', (run) => format(run.requests_per_s)],
    ['in time', 'per s', (run) => format(run.goodput_per_s)],
    ['tokens', 'per s', (run) => format(run.tokens_per_s)],
    ['refused', '', (run) => format(run.refused), (run) => run.refused > 0],
    ['cancelled', '', (run) => format(run.cancelled)],
    ['unfinished', '', (run) => format(run.unfinished), (run) => run.unfinished > 0],
    ['not sent', '', (run) => format(run.unsent), (run) => run.unsent > 0],
    ['queue', 'of latency', share('queue')],
    ['compute', 'of latency', share('compute')],
    ['client CPU', 'cores', (run) => format(client(run).cpu_cores), (run) => client(run).is_bottleneck],
  ];
  const head =
      columns.map(([text, unit]) => html('th', {scope: 'col'}, text, html('small', {}, unit || '\u00a0')));
  return table(
      [loadHead(), head],
      runs.map(
          (run, i) => html(
              'tr', {}, runCell(runs, i),
              columns.map(
                  ([, , text, bad]) => html('td', {class: bad && bad(run) ? 'bad' : null}, text(run))))));
}

// Each cell: from the intended send time, its confidence below; from the real one under the pointer.
function latencyTable(runs) {
  const keys = ['mean', 'p50', 'p90', 'p95', 'p99', 'p99_9', 'p99_99', 'max'].filter(
      (key) => runs.some((run) => isNumber(latency(run, key))));
  if (keys.length === 0) return null;
  const range = (run, key) => (((run.latency_ms || {}).intended || {}).ci95 || {})[key];
  const cell = (run, key) => {
    const actual = latency(run, key, 'actual');
    const between = range(run, key);
    return html(
        'td', {title: isNumber(actual) ? `${format(actual)} ms from the time it was really sent` : null},
        format(latency(run, key)),
        html('small', {}, between ? `${format(between[0])} to ${format(between[1])}` : '\u00a0'));
  };
  const unit = (key) => (runs.some((run) => range(run, key)) ? '95 % confidence' : '\u00a0');
  const head = keys.map((key) => html('th', {scope: 'col'}, percentName(key), html('small', {}, unit(key))));
  return [
    html('h2', {}, 'Latency, ms'),
    table(
        [loadHead(), head],
        runs.map((run, i) => html('tr', {}, runCell(runs, i), keys.map((key) => cell(run, key)))))
  ];
}

function refusalsTable(runs) {
  const rows = runs.flatMap(
      (run, i) => Object.entries(run.refusals || {})
                      .map(
                          ([code, refusal]) => html(
                              'tr', {}, runCell(runs, i), html('td', {class: 'text'}, code),
                              html('td', {}, format(refusal.count)),
                              html('td', {class: 'text wrap'}, refusal.example || ''))));
  if (rows.length === 0) return null;
  const head = ['load', 'code'].map((text) => html('th', {class: 'text'}, text));
  return [
    html('h2', {}, 'Refusals and failures'),
    table([head, html('th', {}, 'count'), html('th', {class: 'text'}, 'first message')], rows)
  ];
}

function searchTable(found) {
  const head = [
    html('th', {}, 'step'), html('th', {}, 'rate, per s'), html('th', {}, `${goalName(found)}, ms`),
    html('th', {class: 'text'}, 'limit')
  ];
  return table(
      head,
      found.steps.map(
          (step, i) => html(
              'tr', {}, html('td', {}, String(i + 1)), html('td', {}, format(step.rate)),
              html('td', {class: step.met ? null : 'bad'}, format(step.value_ms)),
              html('td', {class: 'text'}, step.met ? 'met' : 'missed'))));
}

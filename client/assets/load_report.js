// The page of `headlight loadtest --html`. Its data is the report as --json has it, schema
// headlight-loadtest/1.
const color = (i) => `var(--c${i % 7})`;
// In ms; undefined where nothing was answered, for the report has zeros then.
const latency = (run, key, clock) =>
    (run.replies === 0 ? undefined : ((run.latency_ms || {})[clock || 'intended'] || {})[key]);
const percentName = (key) => key.replace('_', '.');

function nameOf(run) {
  if (run.loop === 'open') return isNumber(run.rate) ? `${format(run.rate)}/s` : 'open loop';
  return `${run.concurrency} in flight`;
}
const loadOf = (run) => (run.loop === 'open' ? run.rate : run.concurrency);
const bounds = (values) => {
  const numbers = values.filter(isNumber);
  return numbers.length ? [Math.min(...numbers), Math.max(...numbers)] : [0, 1];
};

// Logarithmic where the values reach over more than a factor of 30, for then a linear axis hides the small
// ones.
const wantsLog = (low, high) => low > 0 && high / low > 30;
function latencyScale(values) {
  const [low, high] = bounds(values.filter((value) => value > 0));
  return wantsLog(low, high) ? logScale(low, high) : linearScale(0, high);
}
const logNote = (values) =>
    (wantsLog(...bounds(values.filter((value) => value > 0))) ? 'ms, log scale' : 'ms');

function header(report, runs) {
  const request = report.request || {};
  const shape = request.shape ? `[${[request.shape].flat().join(', ')}]` : null;
  const lengths = request.seq_lens === undefined || request.seq_lens === null ?
      null :
      [request.seq_lens].flat().join(', ');
  const facts = [
    ['server', report.server],
    [
      'model',
      [report.model, report.model_version && `version ${report.model_version}`].filter(Boolean).join(', ')
    ],
    ['precision', report.precision],
    [
      'request',
      [request.input, shape, lengths && `lengths ${lengths}`, request.dtype].filter(Boolean).join(' ')
    ],
    [
      'mean size',
      isNumber(request.mean_tokens) &&
          `${format(request.mean_tokens)} tokens, ${format(request.mean_bytes)} bytes`
    ],
    ['weights', request.weights !== 'none' && request.weights],
    ['connections', report.connections],
    ['arrivals', report.arrivals],
    ['timeout', (report.timeouts_ms || []).length > 0 && `${report.timeouts_ms.join(', ')} ms`],
    ['cancelled on purpose', report.cancel_ratio > 0 && `${format(100 * report.cancel_ratio)} %`],
    ['warm-up', isNumber(report.warmup_s) && `${format(report.warmup_s)} s`],
    ['seed', report.seed],
  ];
  const shown =
      facts.filter(([, value]) => value !== undefined && value !== null && value !== false && value !== '');
  const count = `${runs.length} ${runs.length === 1 ? 'run' : 'runs'}`;
  return html(
      'header', {}, html('h1', {}, `Load test of ${report.model || 'a model'}`),
      html(
          'p', {class: 'faint'},
          [count, report.started_at && `started ${report.started_at}`].filter(Boolean).join(', ')),
      html(
          'dl', {class: 'facts'},
          shown.map(([term, value]) => html('div', {}, html('dt', {}, term), html('dd', {}, String(value))))),
      notices(report, runs));
}

function notices(report, runs) {
  const notice = (title, text) => html('p', {class: 'notice'}, html('b', {}, title), ' ', text);
  const list = [];
  if (report.interrupted) list.push(notice('Interrupted.', 'The last run was ended before its time.'));
  for (const run of runs) {
    const client = run.client || {};
    if (!client.is_bottleneck && !client.warning) continue;
    list.push(notice(
        `${nameOf(run)}: the load tester was the bottleneck.`,
        client.warning || 'Its latencies are those of this machine, not of the server.'));
  }
  return list;
}

function percentilePlot(runs) {
  const series = [];
  const manyRuns = runs.length > 8;  // then the actual times would only clutter
  let apart = false;
  runs.forEach((run, i) => {
    for (const [clock, dash] of [['intended', null], ['actual', '5 4']]) {
      const points = (latency(run, 'percentiles', clock) || [])
                         .filter(([percent]) => percent < 99.99995)
                         .map(([x, y]) => ({x, y}));
      if (points.length === 0 || (clock === 'actual' && manyRuns)) continue;
      series.push(
          {name: clock === 'intended' ? nameOf(run) : null, color: color(i), dash, points, run, clock});
      apart = apart || clock === 'actual';
    }
  });
  const values = series.flatMap((one) => one.points.map((point) => point.y));
  if (values.length === 0) return null;
  const highest = Math.max(...series.flatMap((one) => one.points.map((point) => point.x)));
  if (apart)
    series.push(
        {name: 'dashed: from the time it was really sent', color: 'var(--faint)', dash: '5 4', points: []});
  return drawPlot({
    title: 'Latency by percentile',
    note: 'from the time each request was meant to be sent',
    x: percentileScale(highest),
    xTitle: 'percentile of the replies (each step right: a tenth as many are slower)',
    y: latencyScale(values),
    yTitle: `latency, ${logNote(values)}`,
    series,
    tip: (point, one) => `${nameOf(one.run)}, ${one.clock} send time\np${Number(point.x.toPrecision(7))}   ${
        format(point.y)} ms`,
  });
}

// Percentiles over throughput, points joined in the order of the load.
function sweepPlot(runs) {
  const byLoad = runs.filter((run) => isNumber(run.requests_per_s)).sort((a, b) => loadOf(a) - loadOf(b));
  const line = (name, key, i) => ({
    name,
    color: color(i),
    dots: true,
    points: byLoad.map(
        (run) =>
            ({x: run.requests_per_s, y: latency(run, key), run, label: key === 'p99_9' ? nameOf(run) : null}))
  });
  const series = [line('p50', 'p50', 0), line('p99', 'p99', 1), line('p99.9', 'p99_9', 2)];
  // Where not all replies came in time; with the point before, so that the line branches off the other.
  const late = (run) =>
      run !== undefined && isNumber(run.goodput_per_s) && run.goodput_per_s < 0.99 * run.requests_per_s;
  if (byLoad.some(late)) {
    series.push({
      name: 'p99 over goodput',
      color: color(3),
      dash: '5 4',
      dots: true,
      points: byLoad.map((run, i) => ({
                           x: run.goodput_per_s,
                           y: late(run) || late(byLoad[i + 1]) ? latency(run, 'p99') : null,
                           run,
                           hollow: true
                         }))
    });
  }
  const values = series.flatMap((one) => one.points.map((point) => point.y)).filter(isNumber);
  const [, most] = bounds(series.flatMap((one) => one.points.map((point) => point.x)));
  return drawPlot({
    title: 'Latency against throughput',
    note: 'the knee is the capacity',
    x: linearScale(0, most),
    xTitle: 'replies per second',
    y: latencyScale(values),
    yTitle: `latency, ${logNote(values)}`,
    series,
    tip: (point, one) => `${nameOf(point.run)}\n${one.name}   ${format(point.y)} ms\n` +
        `${format(point.run.requests_per_s)} replies/s\n${format(point.run.goodput_per_s)}/s in time`,
  });
}

// The mean latency of each load, split as the replies' time budgets say.
function sharesPlot(runs) {
  const byLoad =
      runs.filter((run) => isNumber(loadOf(run)) && run.server_share && isNumber(latency(run, 'mean')))
          .sort((a, b) => loadOf(a) - loadOf(b));
  if (byLoad.length < 2) return null;
  const line = (name, key, i, dash) => ({
    name,
    color: color(i),
    dash,
    dots: true,
    points: byLoad.map((run) => ({x: loadOf(run), y: run.server_share[key] * latency(run, 'mean'), run, key}))
  });
  const series = [
    line('queued in the server', 'queue', 1), line('computed', 'compute', 0),
    line('network, client and the rest', 'other', 6, '5 4')
  ];
  const values = series.flatMap((one) => one.points.map((point) => point.y)).filter(isNumber);
  const open = byLoad.every((run) => run.loop === 'open');
  return drawPlot({
    title: 'Where the time goes',
    note: 'means',
    x: linearScale(0, bounds(byLoad.map(loadOf))[1]),
    xTitle: open ? 'requests asked for, per second' : 'requests in flight',
    y: latencyScale(values),
    yTitle: `part of the latency, ${logNote(values)}`,
    series,
    tip: (point, one) => `${nameOf(point.run)}\n${one.name}   ${format(point.y)} ms\n${
        format(100 * point.run.server_share[point.key])} % of the mean`,
  });
}

function answeredPlot(runs) {
  const byLoad = runs.filter((run) => isNumber(loadOf(run))).sort((a, b) => loadOf(a) - loadOf(b));
  const open = byLoad.every((run) => run.loop === 'open');
  const line = (name, i, value, dash) => ({
    name,
    color: color(i),
    dash,
    dots: true,
    points: byLoad.map((run) => ({x: loadOf(run), y: value(run), run}))
  });
  const seconds = (run) => run.measured_s || 1;
  const series = [
    line('replies', 0, (run) => run.requests_per_s),
    line('goodput (in time)', 2, (run) => run.goodput_per_s, '5 4')
  ];
  if (byLoad.some((run) => run.refused > 0))
    series.push(line('refused', 1, (run) => run.refused / seconds(run), '2 3'));
  const [, mostX] = bounds(byLoad.map(loadOf));
  const [, mostY] = bounds(series.flatMap((one) => one.points.map((point) => point.y)));
  if (open)
    series.push({
      name: 'as asked',
      color: 'var(--faint)',
      dash: '1 4',
      points: [{x: 0, y: 0}, {x: Math.min(mostX, mostY), y: Math.min(mostX, mostY)}]
    });
  return drawPlot({
    title: 'Throughput and goodput',
    note: open ? 'against the rate asked for' : 'against requests in flight',
    x: linearScale(0, mostX),
    xTitle: open ? 'requests asked for, per second' : 'requests in flight',
    y: linearScale(0, mostY),
    yTitle: 'per second',
    series,
    tip: (point, one) => point.run ? `${nameOf(point.run)}\n${one.name}   ${format(point.y)}/s` : one.name,
  });
}

// The rows of a run's timeline with the times that have none, so that a line breaks there.
function withGaps(rows) {
  const steps =
      rows.slice(1).map((row, i) => row.t_s - rows[i].t_s).filter((step) => step > 0).sort((a, b) => a - b);
  const interval = steps.length ? steps[steps.length >> 1] : 1;
  const filled = [];
  rows.forEach((row, i) => {
    if (i > 0 && row.t_s - rows[i - 1].t_s > 1.5 * interval) {
      for (let t = rows[i - 1].t_s + interval; t < row.t_s - 0.5 * interval; t += interval)
        filled.push({t_s: t, replies: 0});
    }
    filled.push(row);
  });
  const gaps = [];
  for (const row of filled) {
    if (row.replies > 0) continue;
    const last = gaps[gaps.length - 1];
    if (last && Math.abs(last[1] - row.t_s) < 0.01 * interval)
      last[1] = row.t_s + interval;
    else
      gaps.push([row.t_s, row.t_s + interval]);
  }
  return {rows: filled, interval, gaps};
}

function timelinePlots(run) {
  const {rows, interval, gaps} = withGaps(run.timeline);
  const end = rows[rows.length - 1].t_s + interval;
  const x = linearScale(rows[0].t_s, end, 10);
  const line = (name, i, value, dash) => ({
    name,
    color: color(i),
    dash,
    points: rows.map((row) => ({x: row.t_s + interval / 2, y: value(row), row}))
  });
  const rates = [
    line('sent', 6, (row) => row.sent / interval, '1 3'), line('replies', 0, (row) => row.replies / interval),
    line('refused', 1, (row) => row.refused / interval)
  ];
  const answered = (key) => (row) => (row.replies > 0 ? row[key] : null);
  const times = [
    line('p50', 0, answered('p50_ms')), line('p99', 1, answered('p99_ms')),
    line('max', 3, answered('max_ms'), '2 3')
  ];
  const [, most] = bounds(rates.flatMap((one) => one.points.map((point) => point.y)));
  const values = times.flatMap((one) => one.points.map((point) => point.y)).filter((value) => value > 0);
  const note = gaps.length ? 'shaded: no reply' : null;
  const tip = (unit) => (point, one) => `${format(point.row.t_s)} s\n${one.name}   ${format(point.y)}${unit}`;
  const common = {x, xTitle: 'seconds since the measurement began', gaps, height: 260, note};
  return [
    drawPlot({
      ...common,
      title: `Rates over time, ${nameOf(run)}`,
      y: linearScale(0, most),
      yTitle: 'per second',
      series: rates,
      tip: tip('/s')
    }),
    drawPlot({
      ...common,
      title: `Latency over time, ${nameOf(run)}`,
      y: latencyScale(values),
      yTitle: `latency, ${logNote(values)}`,
      series: times,
      tip: tip(' ms')
    }),
  ];
}

function timeline(runs) {
  const shown = runs.map((run, i) => ({run, i})).filter(({run}) => (run.timeline || []).length > 0);
  if (shown.length === 0) return null;
  const place = html('div', {class: 'plots'});
  const show = (i) => place.replaceChildren(...timelinePlots(runs[i]));
  const chosen = shown.find(({run}) => run.refused > 0) || shown[shown.length - 1];
  const choice =
      html('select', {'aria-label': 'run'}, shown.map(({run, i}) => html('option', {value: i}, nameOf(run))));
  choice.value = String(chosen.i);
  choice.addEventListener('change', () => show(Number(choice.value)));
  show(chosen.i);
  return [html('h2', {}, 'Over time ', shown.length > 1 ? choice : null), place];
}

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

function search(report) {
  const found = report.search;
  if (!found || !(found.steps || []).length) return null;
  const goal = percentName(found.goal || 'latency').replace(/.ms$/, '');
  const points = found.steps.map((step) => ({x: step.rate, y: step.value_ms, hollow: !step.met, step}))
                     .sort((a, b) => a.x - b.x);
  const values = points.map((point) => point.y).concat(found.limit_ms);
  const plot = drawPlot({
    title: `Search for the highest rate with ${goal} within ${format(found.limit_ms)} ms`,
    note: isNumber(found.best_rate) && found.best_rate > 0 ? `found ${format(found.best_rate)}/s` :
                                                             'no rate met it',
    x: linearScale(...bounds(points.map((point) => point.x))),
    xTitle: 'requests asked for, per second',
    y: latencyScale(values),
    yTitle: `${goal}, ${logNote(values)}`,
    limit: found.limit_ms,
    series: [
      {name: 'filled: within the limit, hollow: over it', color: color(0), dots: true, points},
      {name: `limit ${format(found.limit_ms)} ms`, color: 'var(--bad)', dash: '2 3', points: []}
    ],
    tip: (point) => `${format(point.x)}/s\n${goal}   ${format(point.y)} ms\n${
        point.step.met ? 'within the limit' : 'over the limit'}`,
  });
  const head = [
    html('th', {}, 'step'), html('th', {}, 'rate, per s'), html('th', {}, `${goal}, ms`),
    html('th', {class: 'text'}, 'limit')
  ];
  const steps = table(
      head,
      found.steps.map(
          (step, i) => html(
              'tr', {}, html('td', {}, String(i + 1)), html('td', {}, format(step.rate)),
              html('td', {class: step.met ? null : 'bad'}, format(step.value_ms)),
              html('td', {class: 'text'}, step.met ? 'met' : 'missed'))));
  return [html('h2', {}, 'Search'), html('div', {class: 'plots'}, plot, steps)];
}

drawPage((report, main) => {
  const runs = report.runs || [];
  const sweep = new Set(runs.map(nameOf)).size > 1;
  const sections = [
    header(report, runs),
    html('h2', {}, 'Latency and throughput'),
    html(
        'div', {class: 'plots'}, percentilePlot(runs),
        sweep ? [sweepPlot(runs), answeredPlot(runs), sharesPlot(runs)] : null),
    timeline(runs),
    html('h2', {}, 'Runs'),
    runsTable(runs),
    latencyTable(runs),
    refusalsTable(runs),
    search(report),
  ];
  main.replaceChildren(
      ...sections.flat(Infinity).filter((section) => section !== null && section !== undefined));
});

// The plots of a load report: of all runs, of one run over time, of a search. Null where there is nothing to
// show.

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

// What the search tried, against its limit.
function searchPlot(found) {
  const goal = goalName(found);
  const points = found.steps.map((step) => ({x: step.rate, y: step.value_ms, hollow: !step.met, step}))
                     .sort((a, b) => a.x - b.x);
  const values = points.map((point) => point.y).concat(found.limit_ms);
  return drawPlot({
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
}

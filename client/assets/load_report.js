// The page of `headlight loadtest --html`. Its data is the report as --json has it, schema
// headlight-loadtest/1, which load_data.js reads; load_plots.js and load_tables.js draw what is put together
// here.

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

function search(report) {
  const found = report.search;
  if (!found || !(found.steps || []).length) return null;
  return [html('h2', {}, 'Search'), html('div', {class: 'plots'}, searchPlot(found), searchTable(found))];
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

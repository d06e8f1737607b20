// What a load report says: numbers of its runs, their names, and the scales that suit them.

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

// Of a search: "p99" of the goal "p99_ms".
const goalName = (found) => percentName(found.goal || 'latency').replace(/.ms$/, '');

// What the pages share: elements, numbers, the text under the pointer, and plots of lines in SVG.
'use strict';

const SVG_NAMESPACE = 'http://www.w3.org/2000/svg';

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  for (const child of [children].flat(Infinity)) {
    if (child !== null && child !== undefined) element.append(child);
  }
  return element;
}

// Texts among the children become text nodes, never markup.
const html = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
const svg = (name, attributes, ...children) =>
    fill(document.createElementNS(SVG_NAMESPACE, name), attributes, children);

const isNumber = (value) => typeof value === 'number' && Number.isFinite(value);

// Three digits, thousands as 12.3k; a dash for what is not there.
function format(value) {
  if (!isNumber(value)) return '–';
  const size = Math.abs(value);
  if (size >= 1e9) return trim(value / 1e9) + 'G';
  if (size >= 1e6) return trim(value / 1e6) + 'M';
  if (size >= 1e4) return trim(value / 1e3) + 'k';
  if (size !== 0 && size < 1e-3) return value.toExponential(1).replace('.0e', 'e');
  return trim(value);
}
const trim = (value) => String(Number(value.toPrecision(Math.abs(value) >= 1000 ? 4 : 3)));

function showTip(event, text) {
  const tip = document.getElementById('tip');
  tip.textContent = text;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left =
      event.clientX + 14 + box.width > innerWidth ? event.clientX - 14 - box.width : event.clientX + 14;
  const top =
      event.clientY + 14 + box.height > innerHeight ? event.clientY - 14 - box.height : event.clientY + 14;
  tip.style.left = Math.max(2, left) + 'px';
  tip.style.top = Math.max(2, top) + 'px';
}
function hideTip() {
  document.getElementById('tip').hidden = true;
}

// Runs a page's script over its data and says, for people and for checks, how that ended.
function drawPage(draw) {
  try {
    draw(JSON.parse(document.getElementById('data').textContent), document.getElementById('main'));
    document.documentElement.setAttribute('data-drawn', 'yes');
  } catch (error) {
    document.getElementById('main').prepend(
        html('p', {class: 'notice'}, html('b', {}, 'This page could not be drawn: '), String(error)));
    document.documentElement.setAttribute('data-drawn', 'failed');
    console.error(error);
  }
}

// --- Scales: a function from values to 0..1, and marks of value and text.

function linearScale(low, high, wanted) {
  if (!(high > low)) high = low + (Math.abs(low) || 1);
  const raw = (high - low) / (wanted || 6);
  const power = Math.pow(10, Math.floor(Math.log10(raw)));
  const step = power * [1, 2, 5, 10].find((factor) => raw / power <= factor * 1.0001);
  const first = Math.floor(low / step + 1e-9), last = Math.ceil(high / step - 1e-9);
  const marks = [];
  for (let i = first; i <= last; ++i)
    marks.push({value: i * step, text: format(Number((i * step).toPrecision(9)))});
  const place = (value) => (value - first * step) / ((last - first) * step);
  return {place, marks};
}

function logScale(low, high) {
  // Bounds at 1, 2 or 5 times a power of ten, so that the axis is not longer than its data.
  const round = (value, up) => {
    const power = Math.pow(10, Math.floor(Math.log10(value) + 1e-9));
    const steps = [1, 2, 5, 10].map((factor) => factor * power);
    return up ? steps.find((step) => step >= value * 0.9999) :
                steps.reverse().find((step) => step <= value * 1.0001);
  };
  const bottom = round(low, false);
  const top = Math.max(round(high, true), bottom * 10);
  const decades = Math.log10(top / bottom);
  const factors = decades > 4 ? [1] : decades > 2.5 ? [1, 3] : [1, 2, 5];
  const marks = [];
  for (let power = Math.floor(Math.log10(bottom)); power <= Math.log10(top) + 1e-9; ++power) {
    for (const factor of factors) {
      const value = factor * Math.pow(10, power);
      if (value >= bottom * 0.999 && value <= top * 1.001) marks.push({value, text: format(value)});
    }
  }
  return {place: (value) => Math.log10(Math.max(value, bottom) / bottom) / decades, marks};
}

// Each step to the right leaves a tenth as many requests: 0, 90, 99, 99.9 ...
function percentileScale(highest) {
  const nines = Math.max(2, Math.min(6, Math.ceil(-Math.log10(1 - Math.min(highest, 99.9999) / 100) - 1e-6)));
  const place = (percent) => -Math.log10(1 - percent / 100) / nines;
  const marks = [0, 50, 90, 99, 99.9, 99.99, 99.999, 99.9999]
                    .filter((percent) => place(percent) <= 1.0001)
                    .map((value) => ({value, text: String(value)}));
  return {place, marks};
}

// --- Plots

const MARGIN = {
  left: 58,
  right: 22,
  top: 12,
  bottom: 44
};

function pathOf(points) {
  let path = '', pen = false;
  for (const point of points) {
    if (point === null) {
      pen = false;
      continue;
    }
    path += (pen ? 'L' : 'M') + point.x.toFixed(1) + ' ' + point.y.toFixed(1);
    pen = true;
  }
  return path;
}

function axes(plot, area) {
  const parts = [];
  for (const mark of plot.y.marks) {
    const y = area.y(mark.value);
    parts.push(
        svg('line', {class: 'grid', x1: area.left, x2: area.right, y1: y, y2: y}),
        svg('text', {x: area.left - 7, y: y + 4, 'text-anchor': 'end'}, mark.text));
  }
  let freeFrom = -Infinity;
  for (const mark of plot.x.marks) {
    const x = area.x(mark.value), half = mark.text.length * 3.3;
    parts.push(svg('line', {class: 'grid', x1: x, x2: x, y1: area.top, y2: area.bottom}));
    if (x - half < freeFrom) continue;
    parts.push(svg('text', {x, y: area.bottom + 16, 'text-anchor': 'middle'}, mark.text));
    freeFrom = x + half + 5;
  }
  const middle = (area.top + area.bottom) / 2;
  parts.push(
      svg('path', {class: 'axis', d: `M${area.left} ${area.top}V${area.bottom}H${area.right}`}),
      svg('text', {
        class: 'axis-title',
        x: (area.left + area.right) / 2,
        y: area.bottom + 36,
        'text-anchor': 'middle'
      },
          plot.xTitle),
      svg('text', {
        class: 'axis-title',
        x: 13,
        y: middle,
        'text-anchor': 'middle',
        transform: `rotate(-90 13 ${middle})`
      },
          plot.yTitle));
  return parts;
}

// Draws plot.series: {name, color, dash, points: [{x, y, note}], dots, labels}. A point without a y breaks
// its line. `gaps`, a list of [from, to], are shaded; `limit` is a line across. The pointer shows the nearest
// point of each.
function drawPlot(plot) {
  const width = plot.width || 580, height = plot.height || 320;
  const area =
      {left: MARGIN.left, right: width - MARGIN.right, top: MARGIN.top, bottom: height - MARGIN.bottom};
  area.x = (value) => area.left + plot.x.place(value) * (area.right - area.left);
  area.y = (value) => area.bottom - plot.y.place(value) * (area.bottom - area.top);
  const picture =
      svg('svg', {class: 'plot', viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': plot.title});
  for (const [from, to] of plot.gaps || []) {
    picture.append(svg('rect', {
      class: 'gap',
      x: area.x(from),
      width: Math.max(1, area.x(to) - area.x(from)),
      y: area.top,
      height: area.bottom - area.top
    }));
  }
  picture.append(...axes(plot, area));
  if (isNumber(plot.limit)) {
    const y = area.y(plot.limit);
    picture.append(svg('line', {class: 'limit', x1: area.left, x2: area.right, y1: y, y2: y}));
  }
  const places = [];
  for (const series of plot.series) {
    const points = series.points.map(
        (point) => isNumber(point.y) && isNumber(point.x) ?
            {x: area.x(point.x), y: area.y(point.y), point, series} :
            null);
    const line = svg('path', {class: 'series', d: pathOf(points), 'stroke-dasharray': series.dash});
    line.style.stroke = series.color;
    picture.append(line);
    // A point between two gaps has no line to be seen by.
    points.forEach((place, i) => {
      if (place === null) return;
      places.push(place);
      if (!series.dots && (points[i - 1] || points[i + 1])) return;
      const dot = svg('circle', {cx: place.x, cy: place.y, r: 3.5});
      dot.style.fill = place.point.hollow ? 'var(--paper)' : series.color;
      dot.style.stroke = series.color;
      dot.style.strokeWidth = 2;
      picture.append(dot);
      if (place.point.label) {
        // To the upper left of its point: curves rise to the right.
        const room = place.x - area.left > place.point.label.length * 6.5 + 8;
        picture.append(
            svg('text', {
              class: 'note',
              x: place.x - (room ? 6 : 0),
              y: place.y - 8,
              'text-anchor': room ? 'end' : 'start'
            },
                place.point.label));
      }
    });
  }
  if (places.length > 0) {
    addPointer(picture, plot, area, places);
  } else {
    picture.classList.add('empty');
    picture.append(
        svg('text', {
          class: 'note',
          x: (area.left + area.right) / 2,
          y: (area.top + area.bottom) / 2,
          'text-anchor': 'middle'
        },
            'nothing to show'));
  }
  const caption = html(
      'figcaption', {}, html('b', {}, plot.title), plot.note && html('span', {class: 'faint'}, plot.note),
      plot.control);
  return html('figure', {}, caption, picture, legend(plot.series));
}

function legend(series) {
  return html('ul', {class: 'legend'}, series.filter((one) => one.name).map((one) => {
    const line =
        svg('line', {x1: 0, x2: 26, y1: 5, y2: 5, 'stroke-width': 2.5, 'stroke-dasharray': one.dash});
    line.style.stroke = one.color;
    return html('li', {}, svg('svg', {viewBox: '0 0 26 10'}, line), one.name);
  }));
}

function addPointer(picture, plot, area, places) {
  const cross = svg('line', {class: 'cross', y1: area.top, y2: area.bottom, visibility: 'hidden'});
  const ring =
      svg('circle', {r: 6, fill: 'none', stroke: 'var(--ink)', 'stroke-width': 1.5, visibility: 'hidden'});
  picture.append(cross, ring);
  picture.addEventListener('pointermove', (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(picture.getScreenCTM().inverse());
    let best = null, bestDistance = Infinity;
    for (const place of places) {
      const distance = Math.hypot(place.x - at.x, (place.y - at.y) * 0.7);
      if (distance < bestDistance) {
        best = place;
        bestDistance = distance;
      }
    }
    if (best === null || bestDistance > 120) return leave();
    fill(cross, {x1: best.x, x2: best.x, visibility: 'visible'});
    fill(ring, {cx: best.x, cy: best.y, visibility: 'visible'});
    showTip(event, plot.tip(best.point, best.series));
  });
  const leave = () => {
    cross.setAttribute('visibility', 'hidden');
    ring.setAttribute('visibility', 'hidden');
    hideTip();
  };
  picture.addEventListener('pointerleave', leave);
}

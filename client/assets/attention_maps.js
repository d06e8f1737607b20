// The page of `headlight heatmap` for many weights: all maps small on one canvas, the chosen one large on
// another.

// binary16 from base64, little-endian.
function decodeHalves(text) {
  const bytes = atob(text);
  const table = new Float32Array(65536);
  for (let half = 0; half < 65536; ++half) {
    const exponent = (half >> 10) & 31, fraction = half & 1023;
    const size = exponent === 0 ? fraction * 2 ** -24 :
        exponent === 31         ? (fraction ? NaN : Infinity) :
                                  (1 + fraction / 1024) * 2 ** (exponent - 15);
    table[half] = half & 32768 ? -size : size;
  }
  const values = new Float32Array(bytes.length / 2);
  for (let i = 0; i < values.length; ++i)
    values[i] = table[bytes.charCodeAt(2 * i) | (bytes.charCodeAt(2 * i + 1) << 8)];
  return values;
}

class Maps {
  constructor(data) {
    Object.assign(this, data);
    this.values = decodeHalves(data.weights);
    this.numQueries = data.query_labels.length;
    this.numKeys = data.key_labels.length;
    this.mapCells = this.numQueries * this.numKeys;
    this.ownScale = false;
    this.largest = [];  // of each map
    for (let map = 0; map < this.layers.length * this.heads.length; ++map) {
      let largest = 0;
      for (let i = map * this.mapCells; i < (map + 1) * this.mapCells; ++i) {
        if (Number.isFinite(this.values[i]) && this.values[i] > largest) largest = this.values[i];
      }
      this.largest.push(largest);
    }
  }
  layerOf(map) {
    return this.layers[Math.floor(map / this.heads.length)];
  }
  headOf(map) {
    return this.heads[map % this.heads.length];
  }
  maxOf(map) {
    return (this.ownScale && this.largest[map]) || this.max;
  }
  nameOf(place, label) {
    return this.are_cells ? label : placeName(place, label);
  }
  value(map, query, key) {
    return this.values[map * this.mapCells + query * this.numKeys + key];
  }

  // The place of a weight between the least and the largest, as the C++ of the SVG has it.
  share(value, max) {
    if (this.scale === 'linear') return Math.min(1, Math.max(0, value / max));
    const least = max * 10 ** -this.log_decades;
    return value <= least ? 0 : Math.min(1, Math.log10(value / least) / this.log_decades);
  }
  colorOf(value, max) {
    return Number.isNaN(value) ? this.not_a_number :
                                 this.palette[Math.round(this.share(value, max) * (this.palette.length - 1))];
  }

  // A map as pixels. Where several cells share a pixel the largest of them is shown: a mean would hide thin
  // lines.
  image(map, width, height) {
    const image = new ImageData(width, height), max = this.maxOf(map);
    const from = (pixel, cells, pixels) => Math.floor(pixel * cells / pixels);
    const to = (pixel, cells, pixels) =>
        Math.max(from(pixel, cells, pixels) + 1, Math.floor((pixel + 1) * cells / pixels));
    for (let y = 0; y < height; ++y) {
      for (let x = 0; x < width; ++x) {
        let largest = -Infinity;
        for (let query = from(y, this.numQueries, height); query < to(y, this.numQueries, height); ++query) {
          for (let key = from(x, this.numKeys, width); key < to(x, this.numKeys, width); ++key) {
            const value = this.value(map, query, key);
            if (Number.isNaN(value) || value > largest) largest = value;
          }
        }
        image.data.set([...this.colorOf(largest, max), 255], 4 * (y * width + x));
      }
    }
    return image;
  }
}

const inkOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const FONT = '11px \'DejaVu Sans Mono\', ui-monospace, Menlo, Consolas, monospace';

// A canvas of that many CSS pixels, sharp on every screen; `draw` gets its context, the origin at the upper
// left.
function prepare(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = width + 'px';
  canvas.style.height = height + 'px';
  const context = canvas.getContext('2d');
  context.scale(ratio, ratio);
  context.font = FONT;
  return context;
}

// Puts an image whose pixels are the screen's at a place in CSS pixels.
function putMap(context, maps, map, box) {
  const ratio = devicePixelRatio || 1;
  const image = maps.image(
      map, Math.max(1, Math.round(box.width * ratio)), Math.max(1, Math.round(box.height * ratio)));
  context.putImageData(image, Math.round(box.x * ratio), Math.round(box.y * ratio));
}

function rotated(context, text, x, y, align) {
  context.save();
  context.translate(x, y);
  context.rotate(-Math.PI / 2);
  context.textAlign = align;
  context.fillText(text, 0, 0);
  context.restore();
}

class Overview {
  constructor(maps, choose) {
    this.maps = maps;
    this.canvas = html('canvas', {tabindex: 0, role: 'img', 'aria-label': 'all maps; arrow keys choose one'});
    const longer = Math.max(maps.numQueries, maps.numKeys);
    const side = Math.max(26, Math.min(150, Math.floor(530 / maps.heads.length) - 6));
    this.mapWidth = Math.max(8, Math.round(side * maps.numKeys / longer));
    this.mapHeight = Math.max(8, Math.round(side * maps.numQueries / longer));
    this.left = 44;
    this.top = 38;
    this.canvas.addEventListener('pointermove', (event) => {
      const map = this.at(event);
      if (map < 0) return hideTip();
      showTip(
          event,
          `layer ${maps.layerOf(map)}, head ${maps.headOf(map)}\nlargest weight ${
              format(maps.largest[map])}`);
    });
    this.canvas.addEventListener('pointerleave', hideTip);
    this.canvas.addEventListener('click', (event) => this.at(event) >= 0 && choose(this.at(event)));
    this.canvas.addEventListener('keydown', (event) => {
      const columns = maps.heads.length;
      const step = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns}[event.key];
      const map = this.chosen + (step || 0);
      if (!step || map < 0 || map >= maps.largest.length) return;
      event.preventDefault();
      choose(map);
    });
  }
  box(map) {
    const columns = this.maps.heads.length;
    return {
      x: this.left + (map % columns) * (this.mapWidth + 6),
      y: this.top + Math.floor(map / columns) * (this.mapHeight + 6),
      width: this.mapWidth,
      height: this.mapHeight
    };
  }
  at(event) {
    const column = Math.floor((event.offsetX - this.left) / (this.mapWidth + 6));
    const row = Math.floor((event.offsetY - this.top) / (this.mapHeight + 6));
    const inside =
        column >= 0 && column < this.maps.heads.length && row >= 0 && row < this.maps.layers.length;
    return inside ? row * this.maps.heads.length + column : -1;
  }
  draw(chosen) {
    this.chosen = chosen;
    const maps = this.maps, last = this.box(maps.largest.length - 1);
    const width = last.x + last.width + 6;
    const context = prepare(this.canvas, Math.max(120, width), last.y + last.height + 6);
    context.fillStyle = inkOf('--faint');
    context.textAlign = 'center';
    context.fillText('head', (this.left + width - 6) / 2, 12);
    maps.heads.forEach((head, i) => context.fillText(head, this.box(i).x + this.mapWidth / 2, this.top - 8));
    rotated(context, 'layer', 12, (this.top + last.y + last.height) / 2, 'center');
    context.textAlign = 'right';
    maps.layers.forEach(
        (layer, i) => context.fillText(
            layer, this.left - 7, this.box(i * maps.heads.length).y + this.mapHeight / 2 + 4));
    for (let map = 0; map < maps.largest.length; ++map) {
      const box = this.box(map);
      putMap(context, maps, map, box);
      context.strokeStyle = inkOf(map === chosen ? '--c1' : '--edge');
      context.lineWidth = map === chosen ? 3 : 1;
      const edge = context.lineWidth / 2;
      context.strokeRect(box.x - edge, box.y - edge, box.width + 2 * edge, box.height + 2 * edge);
    }
  }
}

// "3" where the label is but the place, "3 the" where it is a token.
const placeName = (place, label) => (label === String(place) ? label : `${place} ${label}`);
const shorten = (text, most) => (text.length > most ? [...text].slice(0, most - 1).join('') + '…' : text);

class Detail {
  constructor(maps) {
    this.maps = maps;
    this.canvas = html('canvas', {role: 'img', 'aria-label': 'the chosen map'});
    const longer = Math.max(maps.numQueries, maps.numKeys);
    // Room for both canvases side by side; whole pixels for a cell, if there are enough.
    const side = Math.max(280, Math.min(640, Math.floor((innerWidth - 120) * 0.42)));
    this.cell = longer <= side ? Math.max(1, Math.min(28, Math.floor(side / longer))) : side / longer;
    this.width = Math.max(1, Math.round(this.cell * maps.numKeys));
    this.height = Math.max(1, Math.round(this.cell * maps.numQueries));
    const probe = this.canvas.getContext('2d');
    probe.font = FONT;
    const widest = (labels) =>
        Math.max(...labels.map((label) => probe.measureText(shorten(label, 16)).width));
    this.left = Math.ceil(widest(maps.query_labels)) + 30;
    this.below = Math.ceil(widest(maps.key_labels)) + 30;
    this.canvas.addEventListener('pointermove', (event) => this.point(event));
    this.canvas.addEventListener('pointerleave', hideTip);
  }
  point(event) {
    const maps = this.maps;
    const key = Math.floor((event.offsetX - this.left) / this.width * maps.numKeys);
    const query = Math.floor((event.offsetY - 4) / this.height * maps.numQueries);
    if (key < 0 || query < 0 || key >= maps.numKeys || query >= maps.numQueries) return hideTip();
    const value = maps.value(this.map, query, key);
    showTip(
        event,
        `${Number.isNaN(value) ? 'not a number' : format(value)}\n` +
            `query ${maps.nameOf(maps.first_query + query, maps.query_labels[query])}\nkey ${
                maps.nameOf(key, maps.key_labels[key])}`);
  }
  draw(map) {
    this.map = map;
    const maps = this.maps, top = 4;
    const context = prepare(this.canvas, this.left + this.width + 12, top + this.height + this.below);
    putMap(context, maps, map, {x: this.left, y: top, width: this.width, height: this.height});
    context.strokeStyle = inkOf('--edge');
    context.strokeRect(this.left - 0.5, top - 0.5, this.width + 1, this.height + 1);
    const step = Math.max(1, Math.ceil(13 / this.cell));
    context.fillStyle = inkOf('--ink');
    context.textAlign = 'right';
    for (let query = 0; query < maps.numQueries; query += step) {
      context.fillText(
          shorten(maps.query_labels[query], 16), this.left - 6,
          top + (query + 0.5) * this.height / maps.numQueries + 4);
    }
    for (let key = 0; key < maps.numKeys; key += step) {
      rotated(
          context, shorten(maps.key_labels[key], 16), this.left + (key + 0.5) * this.width / maps.numKeys + 4,
          top + this.height + 6, 'right');
    }
    context.fillStyle = inkOf('--faint');
    rotated(context, 'query', 11, top + this.height / 2, 'center');
    context.textAlign = 'center';
    context.fillText('key', this.left + this.width / 2, top + this.height + this.below - 5);
  }
}

class ColorBar {
  constructor(maps) {
    this.maps = maps;
    this.canvas = html('canvas', {role: 'img', 'aria-label': 'colours of the weights'});
  }
  draw(map) {
    const maps = this.maps, max = maps.maxOf(map), width = 280, left = 22;
    const context = prepare(this.canvas, width + 2 * left, 34);
    for (let x = 0; x < width; ++x) {
      context.fillStyle =
          `rgb(${maps.palette[Math.round(x / (width - 1) * (maps.palette.length - 1))].join(' ')})`;
      context.fillRect(left + x, 1, 1, 12);
    }
    context.strokeStyle = context.fillStyle = inkOf('--faint');
    context.strokeRect(left - 0.5, 0.5, width + 1, 13);
    context.textAlign = 'center';
    const least = max * 10 ** -maps.log_decades;
    const ticks = maps.scale === 'linear' ? linearScale(0, max, 5).marks.map((mark) => mark.value) : [
      0, 1, 2, 3, 4
    ].map((i) => 10 ** (Math.floor(Math.log10(max) + 1e-9) - i)).filter((tick) => tick >= least * 0.999);
    for (const tick of ticks) {
      if (tick > max * 1.0001) continue;
      const x = left + width * maps.share(tick, max);
      context.fillRect(x - 0.5, 14, 1, 4);
      context.fillText(format(Number(tick.toPrecision(6))), x, 30);
    }
  }
}

drawPage((data, main) => {
  const maps = new Maps(data);
  let chosen = 0;
  const overview = new Overview(maps, (map) => {
    chosen = map;
    draw();
  });
  const detail = new Detail(maps);
  const bar = new ColorBar(maps);
  const title = html('h2', {}, '');
  const draw = () => {
    title.textContent = `Layer ${maps.layerOf(chosen)}, head ${maps.headOf(chosen)}`;
    overview.draw(chosen);
    detail.draw(chosen);
    bar.draw(chosen);
  };
  const log = html('input', {type: 'checkbox'});
  log.checked = maps.scale === 'log';
  log.addEventListener('change', () => {
    maps.scale = log.checked ? 'log' : 'linear';
    draw();
  });
  const own = html('input', {type: 'checkbox'});
  own.addEventListener('change', () => {
    maps.ownScale = own.checked;
    draw();
  });
  main.classList.add('wide');
  main.replaceChildren(
      html('h1', {}, maps.title), html('p', {class: 'faint'}, maps.subtitle),
      html(
          'div', {class: 'controls'}, html('span', {}, maps.weight_name), bar.canvas,
          html('label', {}, log, ' log scale'), html('label', {}, own, ' each map on its own scale')),
      html(
          'div', {class: 'maps'}, html('section', {}, title, detail.canvas),
          html(
              'section', {}, html('h2', {}, 'All maps'), overview.canvas,
              html('p', {class: 'faint'}, 'Click one, or use the arrow keys, to see it large.'))));
  draw();
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
});

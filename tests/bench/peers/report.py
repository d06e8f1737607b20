# SPDX-License-Identifier: Apache-2.0
"""What run.py measured, as Markdown, as SVG, and in docs/performance.md. Only the standard library."""
import math
from xml.sax.saxutils import escape

# Of the best peer's time over ours: at least, as the geometric mean of the encoder's cases; and in each of them.
BARS = {'f32': 1.6, 'bf16': 1.7, 'int8': 1.7}
LEAST = 1.15
OURS = 'Headlight'
BEGIN = '<!-- peers: what follows is written by tests/bench/peers/run.py --write-docs -->'
END = '<!-- peers: end -->'


def best_peers(rows):
    """{(threads, kind, family): {case: the row of the fastest peer}}."""
    best = {}
    for row in rows:
        if row['engine'] == OURS:
            continue
        of_cases = best.setdefault((row['threads'], row['kind'], row['family']), {})
        if row['case'] not in of_cases or row['to_ours'] < of_cases[row['case']]['to_ours']:
            of_cases[row['case']] = row
    return best


def means(rows):
    """Of the best peer's ratio over the cases of each kind, threads and family: geometric mean and least."""
    made = []
    for (threads, kind, family), of_cases in best_peers(rows).items():
        ratios = [row['to_ours'] for row in of_cases.values()]
        made.append({'threads': threads, 'kind': kind, 'family': family, 'cases': list(of_cases),
                     'geometric_mean': math.exp(sum(map(math.log, ratios)) / len(ratios)), 'least': min(ratios)})
    return made


def milliseconds(ms):
    return f'{ms:.3g}' if ms < 100 else f'{ms:.0f}'


def one_table(rows, best):
    """Of one kind on so many threads: an engine's line has its times, and their ratios to ours."""
    names = list(dict.fromkeys(row['case'] for row in rows))
    lines = ['| ms (times ours) | ' + ' | '.join(names) + ' | cosine |', '|---' * (len(names) + 2) + '|']
    for family in BARS:
        of_family = [row for row in rows if row['family'] == family]
        for engine, precision in dict.fromkeys((row['engine'], row['precision']) for row in of_family):
            mine = {row['case']: row for row in of_family if (row['engine'], row['precision']) == (engine, precision)}
            cells = []
            for name in names:
                cell = milliseconds(mine[name]['ms']) if name in mine else '-'
                if name in mine and engine != OURS:
                    cell += f' ({mine[name]["to_ours"]:.2f})'
                cells.append(cell)
            least = min(row['cosine'] for row in mine.values())
            title = f'{engine} {precision}'
            lines.append(f'| {f"**{title}**" if engine == OURS else title} | ' + ' | '.join(cells) + f' | {least:.5f} |')
        if family in best:
            cells = [f'**{best[family][name]["to_ours"]:.2f}**' if name in best[family] else '-' for name in names]
            lines.append(f'| best peer over ours, {family} | ' + ' | '.join(cells) + ' | |')
    return lines


def table(result):
    """Everything, as Markdown."""
    rows = result['rows']
    versions = ', '.join(f'{name} {version}' for name, version in result['versions'].items())
    lines = [f'{result["date"]}, {result["cpu"]}{", " + result["note"] if result["note"] else ""}: {versions}. '
             f'Medians of {result["rounds"]} rounds.', '']
    best = best_peers(rows)
    kinds = {'encoder': 'The encoder, from ids to pooled vectors', 'layer': 'One layer of attention, 768 wide, 12 heads'}
    for threads in dict.fromkeys(row['threads'] for row in rows):
        for kind, title in kinds.items():
            mine = [row for row in rows if row['threads'] == threads and row['kind'] == kind]
            if mine:
                families = {family: of for (n, k, family), of in best.items() if (n, k) == (threads, kind)}
                lines += [f'{title}, {threads} thread{"s" if threads > 1 else ""}:', '', *one_table(mine, families), '']
    encoder = [mean for mean in means(rows) if mean['kind'] == 'encoder']
    if encoder:
        lines += ['Best peer over ours, the encoder:', '', '| | geometric mean | wanted | least | wanted |', '|---|---|---|---|---|']
        for mean in encoder:
            lines.append(f'| {mean["family"]}, {mean["threads"]} thread{"s" if mean["threads"] > 1 else ""} | '
                         f'{mean["geometric_mean"]:.2f} | {BARS[mean["family"]]} | {mean["least"]:.2f} | {LEAST} |')
        lines.append('')
    forms = dict.fromkeys(f'{row["engine"]} {row["precision"]}: {row["form"]}' for row in rows
                          if row['form'] not in ('packed', 'dense') and row['threads'] == max(row['threads'] for row in rows))
    if forms:
        lines += ['Better form of the ragged batch: ' + '; '.join(forms) + '.', '']
    if result['skipped']:
        lines += ['Skipped: ' + '; '.join(result['skipped']) + '.', '']
    return '\n'.join(lines)


COLORS = ['#b4531f', '#1f5fa8', '#6b8f3c', '#8a5aa8', '#777777']
WIDTH, PANEL, LEFT, TOP = 760, 190, 56, 64


def plot(result):
    """Times of peers over ours for the encoder's cases, on the most threads there are: a panel for each family."""
    rows = [row for row in result['rows'] if row['kind'] == 'encoder']
    threads = max((row['threads'] for row in rows), default=0)
    rows = [row for row in rows if row['threads'] == threads and row['engine'] != OURS]
    families = [family for family in BARS if any(row['family'] == family for row in rows)]
    engines = list(dict.fromkeys(row['engine'] for row in rows))
    height = TOP + PANEL * len(families) + 10
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
           f'<title>Time of other engines over Headlight\'s, an encoder of 6 x 384, {threads} threads</title>',
           f'<rect width="{WIDTH}" height="{height}" fill="white"/>']

    def text(x, y, anchor, words, size=12):
        out.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>')

    def line(x1, y1, x2, y2, color, width=1):
        out.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" stroke-width="{width}"/>')

    text(LEFT, 20, 'start', f'Time over Headlight\'s, an encoder of 6 x 384, {threads} threads, {result["date"]}')
    for i, engine in enumerate(engines):
        out.append(f'<rect x="{LEFT + 150 * i}" y="32" width="12" height="12" fill="{COLORS[i % len(COLORS)]}"/>')
        text(LEFT + 150 * i + 18, 42, 'start', engine)
    top = max([1.5] + [row['to_ours'] for row in rows]) * 1.1
    for number, family in enumerate(families):
        bottom = TOP + PANEL * (number + 1) - 30

        def y(ratio, bottom=bottom):
            return bottom - (PANEL - 60) * ratio / top

        for tick in range(int(top) + 1):
            line(LEFT, y(tick), WIDTH - 20, y(tick), '#ddd')
            text(LEFT - 8, y(tick) + 4, 'end', str(tick))
        text(LEFT - 40, y(top / 2), 'start', family)
        of_family = [row for row in rows if row['family'] == family]
        names = list(dict.fromkeys(row['case'] for row in of_family))
        kinds = list(dict.fromkeys((row['engine'], row['precision']) for row in of_family))
        step = (WIDTH - 20 - LEFT) / len(names)
        for place, name in enumerate(names):
            bar = min(44.0, step * 0.8 / len(kinds))
            left = LEFT + step * (place + 0.5) - bar * len(kinds) / 2
            for kind, (engine, precision) in enumerate(kinds):
                for row in of_family:
                    if (row['case'], row['engine'], row['precision']) == (name, engine, precision):
                        x, opacity = left + bar * kind, 0.6 if precision.endswith('static') else 1
                        out.append(f'<rect x="{x:.1f}" y="{y(row["to_ours"]):.1f}" width="{bar - 3:.1f}" '
                                   f'height="{bottom - y(row["to_ours"]):.1f}" fill="{COLORS[engines.index(engine) % len(COLORS)]}" '
                                   f'fill-opacity="{opacity}"><title>{escape(f"{engine} {precision}")}</title></rect>')
                        text(x + (bar - 3) / 2, y(row['to_ours']) - 3, 'middle', f'{row["to_ours"]:.2f}', 10)
            text(LEFT + step * (place + 0.5), bottom + 16, 'middle', name)
        line(LEFT, y(1), WIDTH - 20, y(1), '#333', 1.5)
    out.append('</svg>')
    return '\n'.join(out) + '\n'


def replaced(document, words):
    """The document with `words` between the two lines that say so."""
    begin, end = document.index(BEGIN) + len(BEGIN), document.index(END)
    return f'{document[:begin]}\n\n{words.strip()}\n\n{document[end:]}'


def write_docs(result, document, picture):
    with open(picture, 'w', encoding='utf-8') as file:
        file.write(plot(result))
    with open(document, encoding='utf-8') as file:
        words = replaced(file.read(), table(result) + '\n![time of other engines over ours](peers.svg)')
    with open(document, 'w', encoding='utf-8') as file:
        file.write(words)

// Draws one dashboard's panels from /answers.json with Grafana's own components: an approximation of what Grafana shows.
import React from 'react';
import { createRoot } from 'react-dom/client';
import {
  applyFieldOverrides, createTheme, dateTime, FieldType, getDisplayProcessor, getDisplayValueAlignmentFactors, getFieldDisplayValues, ThemeContext, toDataFrame,
} from '@grafana/data';
import { BarGauge, BigValue, PanelChrome, Table, TimeSeries } from '@grafana/ui';

const CELL = { width: 60, height: 38, gap: 8 };
const theme = createTheme({ colors: { mode: 'dark' } });
const drawn = await (await fetch('/answers.json')).json();
const range = { from: dateTime(drawn.from), to: dateTime(drawn.to), raw: { from: dateTime(drawn.from), to: dateTime(drawn.to) } };

const standard = {
  unit: 'unit', min: 'min', max: 'max', decimals: 'decimals', displayName: 'displayName', links: 'links', color: 'color',
  mappings: 'mappings', thresholds: 'thresholds',
};

function framesOf(panel) {
  const frames = panel.frames.map((given) => toDataFrame(given));
  const defaults = panel.fieldConfig?.defaults ?? {};
  const overrides = panel.fieldConfig?.overrides ?? [];
  for (const frame of frames) {
    for (const field of frame.fields) {
      if (field.type === FieldType.time && panel.type !== 'table') continue;
      const color = panel.type === 'timeseries' ? { mode: 'palette-classic' } : undefined;
      field.config = { color, ...defaults, ...field.config, custom: { ...defaults.custom, ...field.config?.custom } };
      for (const { matcher, properties } of overrides) {
        if (matcher.id === 'byName' && matcher.options === field.name) {
          for (const { id, value } of properties) {
            if (standard[id]) field.config[standard[id]] = value;
            else if (id.startsWith('custom.')) field.config.custom = { ...field.config.custom, [id.slice(7)]: value };
          }
        }
      }
    }
  }
  const filled = applyFieldOverrides({
    data: frames, fieldConfig: { defaults: {}, overrides: [] }, replaceVariables: (text) => text, theme, timeZone: 'utc',
  });
  for (const frame of filled) {
    for (const field of frame.fields) field.display = getDisplayProcessor({ field, theme, timeZone: 'utc' });
  }
  return filled;
}

// Grafana's own way: regions as a shade and a bar below, points as a dashed line and a mark.
function annotate(builder) {
  builder.addHook('draw', (u) => {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height + 12);
    ctx.clip();
    const foot = bbox.top + bbox.height;
    for (const note of drawn.notes ?? []) {
      const left = u.valToPos(note.from, 'x', true);
      ctx.fillStyle = ctx.strokeStyle = theme.visualization.getColorByName(note.color);
      if (note.to) {
        const width = Math.max(u.valToPos(note.to, 'x', true) - left, 1);
        ctx.globalAlpha = 0.1;
        ctx.fillRect(left, bbox.top, width, bbox.height);
        ctx.globalAlpha = 1;
        ctx.fillRect(left, foot, width, 4);
      } else {
        ctx.setLineDash([4, 4]);
        ctx.beginPath();
        ctx.moveTo(left, bbox.top);
        ctx.lineTo(left, foot);
        ctx.globalAlpha = 0.6;
        ctx.stroke();
        ctx.globalAlpha = 1;
        ctx.beginPath();
        ctx.moveTo(left - 4, foot + 8);
        ctx.lineTo(left + 4, foot + 8);
        ctx.lineTo(left, foot);
        ctx.fill();
      }
    }
    ctx.restore();
  });
}

function displayed(panel, frames) {
  return getFieldDisplayValues({
    data: frames, reduceOptions: { calcs: panel.options?.reduceOptions?.calcs ?? ['lastNotNull'], values: false },
    fieldConfig: { defaults: {}, overrides: [] }, replaceVariables: (text) => text, theme, timeZone: 'utc',
  });
}

// Grafana's state timeline is no part of its components: the same lanes, drawn plainly.
function States({ panel, frames, width, height }) {
  const words = panel.fieldConfig.defaults.mappings[0].options;
  const left = 150, wide = width - left - 10, tall = Math.min(Math.floor((height - 40) / Math.max(frames.length, 1)), 40);
  const at = (time) => left + ((time - drawn.from) / (drawn.to - drawn.from)) * wide;
  const bars = frames.flatMap((frame, lane) => {
    const times = frame.fields[0].values, values = frame.fields[1].values;
    return times.map((time, i) => {
      const word = words[String(values[i])];
      if (!word || word.color === 'transparent') return null;
      const x = at(Math.max(time, drawn.from)), till = at(Math.min(times[i + 1] ?? drawn.to, drawn.to));
      return till > x ? <rect key={`${lane}-${i}`} x={x} y={lane * tall + tall * 0.1} width={till - x} height={tall * 0.8} fill={theme.visualization.getColorByName(word.color)} /> : null;
    });
  });
  return (
    <svg width={width} height={height} style={{ font: '12px sans-serif', fill: theme.colors.text.primary }}>
      {frames.map((frame, lane) => <text key={lane} x={left - 8} y={lane * tall + tall / 2 + 4} textAnchor="end">{frame.fields[1].config.displayName}</text>)}
      {bars}
      {Object.values(words).filter((word) => word.color !== 'transparent').map((word, i) => (
        <g key={i} transform={`translate(${left + i * 170}, ${height - 16})`}>
          <rect width="10" height="10" fill={theme.visualization.getColorByName(word.color)} /><text x="16" y="10">{word.text}</text>
        </g>
      ))}
    </svg>
  );
}

// Nor is its heatmap: cumulative buckets as shades.
function Heat({ panel, frames, width, height }) {
  const rows = frames.map((frame) => ({ le: Number(frame.fields[1].config.displayName.replace('+Inf', 'Infinity')), times: frame.fields[0].values, values: frame.fields[1].values }))
    .sort((a, b) => a.le - b.le);
  const cells = [];
  rows.forEach((row, i) => row.times.forEach((time, n) => {
    const below = i ? rows[i - 1].values[rows[i - 1].times.indexOf(time)] ?? 0 : 0;
    cells.push({ i, time, value: row.values[n] - below });
  }));
  const most = Math.max(...cells.map((cell) => cell.value), 1e-9), used = rows.filter((_, i) => cells.some((cell) => cell.i === i && cell.value > 1e-6));
  const left = 70, wide = width - left - 10, tall = (height - 10) / Math.max(used.length, 1);
  const step = rows[0]?.times.length > 1 ? rows[0].times[1] - rows[0].times[0] : 1;
  const shown = getDisplayProcessor({ field: { type: FieldType.number, config: { unit: panel.options.yAxis.unit } }, theme });
  return (
    <svg width={width} height={height} style={{ font: '12px sans-serif', fill: theme.colors.text.primary }}>
      {used.map((row, k) => { const said = shown(row.le); return <text key={k} x={left - 8} y={height - 10 - k * tall - tall / 2 + 4} textAnchor="end">{`${said.text}${said.suffix ?? ''}`}</text>; })}
      {cells.filter((cell) => cell.value > 1e-6).map((cell, k) => (
        <rect key={k} x={left + ((cell.time - drawn.from) / (drawn.to - drawn.from)) * wide} y={height - 10 - (used.indexOf(rows[cell.i]) + 1) * tall}
          width={Math.max((step / (drawn.to - drawn.from)) * wide - 1, 1)} height={tall - 1} fill="#5794f2" opacity={0.15 + 0.85 * Math.sqrt(cell.value / most)} />
      ))}
    </svg>
  );
}

function Drawn({ panel, width, height }) {
  const frames = framesOf(panel);
  if (panel.type === 'traces') return <div style={{ padding: 20 }}>The spans of the trace, drawn by Grafana from the backend of traces.</div>;
  if (!frames.some((frame) => frame.length)) return <div style={{ padding: 20 }}>{panel.fieldConfig?.defaults?.noValue ?? 'No data'}</div>;
  switch (panel.type) {
    case 'state-timeline':
      return <States panel={panel} frames={frames} width={width} height={height} />;
    case 'heatmap':
      return <Heat panel={panel} frames={frames} width={width} height={height} />;
    case 'stat': {
      const [value] = displayed(panel, frames);
      return <BigValue theme={theme} width={width} height={height} value={value.display} colorMode="value" graphMode="none" textMode="value" />;
    }
    case 'bargauge': {
      const values = displayed(panel, frames).slice(0, 12);
      const aligned = getDisplayValueAlignmentFactors(values);
      const each = Math.min((panel.options?.maxVizHeight ?? 50) + 6, Math.floor(height / Math.max(values.length, 1)));
      const most = panel.fieldConfig?.defaults?.max ?? Math.max(...values.map((one) => one.display.numeric || 0), 1e-9);
      return <div>{values.map((one, i) => (
        <BarGauge key={i} theme={theme} width={width} height={each - 6} orientation="horizontal" displayMode="basic" value={one.display}
          field={{ ...one.field, min: 0, max: most }} display={one.view?.getFieldDisplayProcessor(one.colIndex)} itemSpacing={6} lcdCellWidth={12} text={panel.options?.text} alignmentFactors={aligned} />
      ))}</div>;
    }
    case 'timeseries': {
      const legend = panel.options?.legend ?? { displayMode: 'list', placement: 'bottom', showLegend: true, calcs: [] };
      return (
        <TimeSeries frames={frames} width={width} height={height} timeRange={range} timeZone="utc" legend={{ calcs: [], ...legend }}>
          {(builder) => { annotate(builder); return null; }}
        </TimeSeries>
      );
    }
    default:
      frames[0].fields = frames[0].fields.filter((field) => !field.config.custom?.hidden);
      return <Table data={frames[0]} width={width - 12} height={height} />;
  }
}

class Guarded extends React.Component {
  state = {};
  static getDerivedStateFromError(error) { return { error }; }
  render() {
    return this.state.error ? <pre style={{ color: 'red', whiteSpace: 'pre-wrap' }}>{String(this.state.error.stack)}</pre> : this.props.children;
  }
}

function Dashboard() {
  const bottom = Math.max(...drawn.panels.map((panel) => panel.gridPos.y + panel.gridPos.h));
  return (
    <ThemeContext.Provider value={theme}>
      <div style={{ height: bottom * CELL.height, width: 24 * CELL.width }}>
        {drawn.panels.map((panel, i) => {
          const { x, y, w, h } = panel.gridPos;
          const width = w * CELL.width - CELL.gap, height = h * CELL.height - CELL.gap;
          if (panel.type === 'row') {
            return (
              <h2 key={i} style={{ position: 'absolute', left: 4, top: y * CELL.height + 6, margin: 0, font: '500 16px sans-serif', color: theme.colors.text.primary }}>
                {panel.collapsed ? '▸' : '▾'} {panel.title}
              </h2>
            );
          }
          return (
            <div key={i} className="panel" style={{ left: x * CELL.width, top: y * CELL.height, width, height }}>
              <PanelChrome title={panel.title} width={width} height={height} padding="md">
                {(inner, tall) => <Guarded><Drawn panel={panel} width={inner} height={tall} /></Guarded>}
              </PanelChrome>
            </div>
          );
        })}
      </div>
    </ThemeContext.Provider>
  );
}

createRoot(document.getElementById('all')).render(<Dashboard />);
setTimeout(() => { document.body.dataset.drawn = 'yes'; }, 1500);

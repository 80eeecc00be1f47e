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

function Drawn({ panel, width, height }) {
  const frames = framesOf(panel);
  if (!frames.some((frame) => frame.length)) return <div style={{ padding: 20 }}>No data</div>;
  switch (panel.type) {
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

"""Style sheet of a picture: close enough to Slack to judge a message, with fonts that every browser has."""

from __future__ import annotations

STYLE = """
:root { --text: #1d1c1d; --soft: #616061; --back: #fff; --line: #ddd; --link: #1264a3; --code: #f8f8f8; --card: #f8f8f8;
        --bad: #c01343; --good: #007a5a; --busy: #1264a3; --mention: #f2c74466; }
@media (prefers-color-scheme: dark) {
  :root { --text: #d1d2d3; --soft: #ababad; --back: #1a1d21; --line: #3d4045; --link: #1d9bd1; --code: #222529;
          --card: #222529; --bad: #e8426d; --good: #2bac76; --busy: #1d9bd1; --mention: #f2c74433; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text); overflow-wrap: anywhere;
       font: 15px/1.46 Lato, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 44rem; margin: 0 auto; padding: 1rem; }
p, h2, h3, pre, blockquote { margin: 0; }
h2 { font-size: 13px; font-weight: 600; color: var(--soft); border-bottom: 1px solid var(--line); padding: 0 0 .25rem; }
h3 { font-size: 18px; }
.shown { margin: 0 0 1.5rem; }
.message { display: flex; gap: .6rem; padding: .55rem 0 .3rem; }
.face { flex: none; width: 36px; height: 36px; border-radius: 6px; background: #3f2a6b; color: #fff; font-weight: 700;
        display: grid; place-items: center; }
.said { min-width: 0; flex: 1; }
.app { font-size: 10px; color: var(--soft); background: var(--card); border: 1px solid var(--line); border-radius: 3px;
       padding: 0 3px; vertical-align: 1px; }
.rich { white-space: pre-wrap; }
a { color: var(--link); text-decoration: none; }
a:hover { text-decoration: underline; }
code, pre { font: 12px/1.5 Monaco, Menlo, Consolas, "DejaVu Sans Mono", monospace; background: var(--code); }
pre { white-space: pre-wrap; border: 1px solid var(--line); border-radius: 4px; padding: .5rem; margin: .25rem 0;
      max-height: 20rem; overflow: auto; }
blockquote { border-left: 4px solid var(--line); padding-left: .75rem; margin: .25rem 0; white-space: pre-wrap; }
.attachment { border-left: 4px solid var(--line); border-radius: 2px; padding: .1rem 0 .1rem .75rem; margin: .35rem 0; }
.context { font-size: 12.5px; color: var(--soft); margin-top: .2rem; }
.mention { background: var(--mention); border-radius: 3px; padding: 0 2px; }
.plan { border: 1px solid var(--line); border-radius: 8px; margin: .4rem 0; padding: .5rem .75rem; }
.plan > .title { font-weight: 700; margin-bottom: .25rem; }
.card { display: flex; gap: .5rem; padding: .15rem 0; }
.card .sign { flex: none; width: 1.1rem; text-align: center; color: var(--soft);
              font-family: "DejaVu Sans", sans-serif; }
.card.complete .sign { color: var(--good); } .card.error .sign { color: var(--bad); }
.card.in_progress .sign { color: var(--busy); }
.card .rich { color: var(--soft); font-size: 13px; }
.actions { display: flex; flex-wrap: wrap; gap: .5rem; margin: .4rem 0; }
.button { border: 1px solid var(--line); border-radius: 4px; padding: .2rem .75rem; font-weight: 700; font-size: 13px; }
.button.primary { background: var(--good); border-color: var(--good); color: #fff; }
.button.danger { background: var(--bad); border-color: var(--bad); color: #fff; }
.button.list { font-weight: 400; padding-right: 2.5rem; }
.button.menu { padding: .2rem .5rem; }
.container { border: 1px solid var(--line); border-radius: 8px; margin: .4rem 0; padding: .35rem .75rem; }
.container > .title { font-weight: 700; font-size: 13px; }
.container.folded > .inner { max-height: 2.6rem; overflow: hidden; opacity: .55;
  -webkit-mask-image: linear-gradient(#000, transparent); mask-image: linear-gradient(#000, transparent); }
.thread { margin-left: 46px; border-left: 2px solid var(--line); padding-left: .75rem; }
.count { color: var(--link); font-weight: 700; font-size: 13px; }
.unknown { color: var(--bad); font-family: monospace; }
.fields { display: grid; grid-template-columns: 1fr 1fr; gap: .25rem 1rem; }
@media (max-width: 480px) { .thread { margin-left: 12px; } main { padding: .5rem; } }
"""

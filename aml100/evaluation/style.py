"""How the report looks: light and dark, by what the reader's system prefers."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root{--ink:#1f2430;--quiet:#697386;--paper:#ffffff;--soft:#f5f6f8;--rule:#e3e6eb;--own:#1f5fd0;--up:#0a7a55;
--down:#b3261e;--warn:#b7791f;--warnpaper:#fff7e0}
@media (prefers-color-scheme:dark){:root{--ink:#e7eaf0;--quiet:#98a2b3;--paper:#12151b;--soft:#1a1f28;--rule:#2b323e;
--own:#6ea1ff;--up:#4fc79a;--down:#ff8a80;--warn:#e0b252;--warnpaper:#2a2413}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:14.5px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,
'DejaVu Sans',sans-serif;font-variant-numeric:tabular-nums}
main{max-width:1040px;margin:0 auto;padding:2rem 1.2rem 3rem}
h1{font-size:1.55rem;margin:0;letter-spacing:-.01em}
h2{font-size:1rem;margin:2.1rem 0 .5rem}
.quiet{color:var(--quiet);font-size:.86rem}
header p{margin:.2rem 0 0}
.note{background:var(--warnpaper);border-left:3px solid var(--warn);padding:.7rem 1rem;margin:1.1rem 0;
border-radius:3px}
.cards{display:grid;grid-template-columns:repeat(4,1fr);gap:.6rem}
@media (max-width:640px){.cards{grid-template-columns:repeat(2,1fr)}}
.card{background:var(--soft);border-radius:6px;padding:.6rem .75rem}
.card .what{color:var(--quiet);font-size:.8rem}
.card .figure{font-size:1.3rem;font-weight:600;letter-spacing:-.01em;white-space:nowrap}
.card .quiet{font-size:.74rem;white-space:nowrap}
.unit{font-size:.8rem;font-weight:400;margin-left:.15rem;color:var(--quiet)}
svg{width:100%;height:auto;display:block}
.grid{stroke:var(--rule);stroke-width:1}
.tick{fill:var(--quiet);font-size:11px}
.line{fill:none;stroke-width:1.3;stroke-linejoin:round}
.own{stroke:var(--own);stroke-width:1.8}
.base0{stroke:#9a6fd6}.base1{stroke:#d68a2e}.base2{stroke:#4b9fb5}.base3{stroke:#b0739c}
.base0,.base1,.base2,.base3{stroke-dasharray:5 3;opacity:.85}
.price{stroke:var(--quiet);stroke-width:1.1}
.area{fill:var(--down);fill-opacity:.28;stroke:var(--down);stroke-width:1}
.long{fill:var(--up)}.short{fill:#c2570c}.won{fill:var(--up);fill-opacity:.85}.lost{fill:var(--down);fill-opacity:.85}
.legend{margin:.1rem 0 .3rem;font-size:.85rem}
.key{margin-right:1.1rem;white-space:nowrap}
.key.own::before,.key.base0::before,.key.base1::before,.key.base2::before,.key.base3::before{content:'';
display:inline-block;width:18px;height:0;border-top:2px solid var(--own);vertical-align:middle;margin-right:.4rem}
.key.base0::before{border-top:2px dashed #9a6fd6}.key.base1::before{border-top:2px dashed #d68a2e}
.key.base2::before{border-top:2px dashed #4b9fb5}.key.base3::before{border-top:2px dashed #b0739c}
.key.long,.key.won,.up{color:var(--up)}.key.short{color:#c2570c}.key.lost,.down{color:var(--down)}
table{border-collapse:collapse;width:100%;font-size:.88rem}
td,th{padding:.28rem .6rem;border-bottom:1px solid var(--rule);text-align:right;white-space:nowrap}
th{color:var(--quiet);font-weight:500}
td:first-child,th:first-child{text-align:left;padding-left:0}
.scroll{overflow-x:auto}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(400px,1fr));gap:0 2.2rem;align-items:start}
.bar{display:grid;grid-template-columns:3.2rem 1fr 4.2rem;align-items:center;gap:.6rem;margin:.35rem 0}
.bar .name{font-size:.85rem}.bar .value{text-align:right}
.track{background:var(--soft);border-radius:3px;height:.9rem;overflow:hidden}
.fill{display:block;height:100%;background:var(--quiet)}.fill.buy{background:var(--up)}.fill.sell{background:#c2570c}
table.months td{text-align:center;padding:.32rem .2rem}table.months th{text-align:center;padding:.28rem .2rem}
.cell{border-radius:3px;padding:.15rem 0}table.months td:first-child{text-align:left}
details{margin-top:1.2rem}summary{cursor:pointer;color:var(--own)}
footer{margin-top:2.4rem;border-top:1px solid var(--rule);padding-top:.8rem}
@media print{details{display:block}}
"""

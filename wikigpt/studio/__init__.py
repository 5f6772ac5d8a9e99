"""The studio: watch runs train, talk to them and look inside, in a browser. One process for one person at a desk.

    run folders ──> board.py, curves.py ──────────┐
    checkpoints ──> engine.py ──> playground.py ──┤   turns.py: who waits
                             ├──> completions.py ─┼──> app.py ──> guard.py ──> server.py ──> browser, openai client
                             └──> looks.py ───────┤
    data folders ──> articles.py ─────────────────┘

It meets training only at the run folder, and never imports it. `web/` are the pages: plain ES modules, no build step.
"""

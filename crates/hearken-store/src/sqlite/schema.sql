-- Places are given by the program and have no gaps. Names are stored once, in `items` and
-- `annotators`, and referred to by number.
CREATE TABLE items (
    place  INTEGER PRIMARY KEY,
    id     TEXT NOT NULL UNIQUE,
    hash   TEXT NOT NULL,
    judged INTEGER NOT NULL DEFAULT 0      -- annotators who have judged it
) STRICT;

CREATE TABLE item_bodies (                 -- apart, so that a scan of `items` is short
    place INTEGER PRIMARY KEY REFERENCES items,
    body  TEXT NOT NULL                    -- JSON
) STRICT;

CREATE TABLE annotators (
    number     INTEGER PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    judgements INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE judgements (
    place     INTEGER PRIMARY KEY,
    id        TEXT NOT NULL UNIQUE,
    item      INTEGER NOT NULL REFERENCES items,
    annotator INTEGER NOT NULL REFERENCES annotators,
    revises   INTEGER UNIQUE REFERENCES judgements,
    body      TEXT NOT NULL                -- JSON
) STRICT;
CREATE INDEX judgements_of ON judgements (item, annotator);
CREATE INDEX judgements_by ON judgements (annotator, place, item);

CREATE TABLE assignments (
    number     INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    item       INTEGER NOT NULL REFERENCES items,
    annotator  INTEGER NOT NULL REFERENCES annotators,
    state      INTEGER NOT NULL,           -- 0 live, 1 judged, 2 skipped
    expires_at INTEGER NOT NULL,
    body       TEXT NOT NULL,              -- JSON of the whole assignment
    UNIQUE (item, annotator)
) STRICT;
CREATE INDEX assignments_by ON assignments (annotator, state);
CREATE INDEX assignments_live ON assignments (item, expires_at) WHERE state = 0;

CREATE TABLE documents (
    kind    TEXT NOT NULL,
    key     TEXT NOT NULL,
    version INTEGER NOT NULL,
    body    TEXT NOT NULL,                 -- JSON
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    place INTEGER PRIMARY KEY,
    body  TEXT NOT NULL                    -- JSON
) STRICT;

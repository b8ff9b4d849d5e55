-- Places are given by the program and have no gaps. Names are stored once, in `items` and
-- `annotators`, and referred to by number.
CREATE TABLE hearken.items (
    place  bigint PRIMARY KEY,
    id     text COLLATE "C" NOT NULL UNIQUE,
    hash   text NOT NULL,
    judged integer NOT NULL DEFAULT 0      -- annotators who have judged it
) WITH (fillfactor = 80);

CREATE TABLE hearken.item_bodies (         -- apart, so that a scan of `items` is short
    place bigint PRIMARY KEY REFERENCES hearken.items,
    body  text NOT NULL                    -- JSON
);

CREATE TABLE hearken.annotators (
    number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text COLLATE "C" NOT NULL UNIQUE,
    judgements bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE TABLE hearken.judgements (
    place     bigint PRIMARY KEY,
    id        text COLLATE "C" NOT NULL UNIQUE,
    item      bigint NOT NULL,
    annotator bigint NOT NULL,
    revises   bigint UNIQUE,               -- a place
    body      text NOT NULL                -- JSON
);
CREATE INDEX judgements_of ON hearken.judgements (item, annotator);
CREATE INDEX judgements_by ON hearken.judgements (annotator, place) INCLUDE (item);

CREATE TABLE hearken.assignments (
    number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id         text COLLATE "C" NOT NULL UNIQUE,
    item       bigint NOT NULL,
    annotator  bigint NOT NULL,
    state      smallint NOT NULL,          -- 0 live, 1 judged, 2 skipped
    expires_at bigint NOT NULL,
    body       text NOT NULL,              -- JSON of the whole assignment
    UNIQUE (item, annotator)
);
CREATE INDEX assignments_by ON hearken.assignments (annotator, state);
CREATE INDEX assignments_live ON hearken.assignments (item) WHERE state = 0;

CREATE TABLE hearken.documents (
    kind    text COLLATE "C" NOT NULL,
    key     text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    body    text NOT NULL,                 -- JSON
    PRIMARY KEY (kind, key)
);

CREATE TABLE hearken.events (
    place bigint PRIMARY KEY,
    body  text NOT NULL                    -- JSON
);

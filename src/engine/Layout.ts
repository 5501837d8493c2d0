/**
 * Layout: how the sequences of a micro-batch stand side by side, and the rows in which they attend.
 *
 * No token is padding but one at the end: linear maps see each once. Sequences that begin alike, such as the two answers
 * of a pair or all samples of a prompt, may share their beginning, which is then computed once. For attention the parts
 * that are not shared are laid into rows as long as the longest of them (see `model/Ragged.ts`); a token sees what comes
 * before it in its own sequence alone, so the loss and its gradients are those of the sequences by themselves. Pure.
 */
import * as RaggedHeads from "../model/RaggedHeads.ts"
import { masked } from "../model/Transformer.ts"
import * as Session from "../onnx/Session.ts"
import * as Packing from "./Packing.ts"

type Ids = ReadonlyArray<number>

/** Where the tokens of a micro-batch stand, and the feeds that say so. */
export interface Layout {
  /** The feeds of `Program.raggedInputs`, made anew as they are large; without `keys` where nothing may be shared. */
  readonly feeds: () => Session.Feeds
  /** The place of a sequence's token among all. */
  readonly at: (sequence: number, token: number) => number
  /** How many tokens there are; what is shared counts once. */
  readonly tokens: number
}

/** Tokens [from, to) of a sequence; those before `from` are the beginning number `beginning`. */
interface Part {
  readonly ids: Ids
  readonly from: number
  readonly to: number
  /** The place of its first token. */
  readonly at: number
  readonly beginning: number | undefined
}

/** The parts of sequences, in the order in which they stand. */
interface Parts {
  readonly tokens: number
  readonly parts: ReadonlyArray<Part>
  /** Those that sequences begin with. */
  readonly beginnings: ReadonlyArray<Part>
  /** The shared and the other part of each sequence. */
  readonly of: ReadonlyArray<{ readonly shared: Part | undefined; readonly rest: Part }>
}

const cut = (sequences: ReadonlyArray<Ids>, groups: ReadonlyArray<ReadonlyArray<number>>): Parts => {
  const parts: Array<Part> = []
  const beginnings: Array<Part> = []
  const of: Array<Parts["of"][number]> = []
  let tokens = 0
  const add = (ids: Ids, from: number, to: number, beginning?: number): Part => {
    const part = { ids, from, to, at: tokens, beginning }
    tokens += to - from
    if (to > from) parts.push(part)
    return part
  }
  for (const members of groups) {
    const count = members.length > 1 ? common(members.map((i) => sequences[i]!)) : 0
    const shared = count === 0 ? undefined : add(sequences[members[0]!]!, 0, count)
    const beginning = shared === undefined ? undefined : beginnings.push(shared) - 1
    for (const i of members) {
      const ids = sequences[i]!
      of[i] = { shared, rest: add(ids, count, ids.length, beginning) }
    }
  }
  return { tokens, parts, beginnings, of }
}

const lengthOf = ({ from, to }: Part): number => to - from

/** Rows of parts with the same beginning, or with none. */
interface Rows {
  readonly rows: ReadonlyArray<ReadonlyArray<Part>>
  /** The tokens of a row, and of a beginning, at most. */
  readonly length: number
  readonly before: number
}

const intoRows = ({ beginnings, parts }: Parts): Rows => {
  const length = Math.max(RaggedHeads.parts, ...parts.map(lengthOf))
  const alike = Map.groupBy(parts, ({ beginning }) => beginning)
  return {
    rows: [...alike.values()].flatMap((parts) => Packing.bins(parts, lengthOf, length)),
    length,
    // An empty column cannot be: without beginnings there is one that no token sees.
    before: Math.max(1, ...beginnings.map(lengthOf))
  }
}

const over = (parts: Parts, shares: boolean): Layout => ({
  feeds: () => feeds(parts, shares),
  at: (sequence, token) => {
    const { rest, shared } = parts.of[sequence]!
    return shared !== undefined && token < rest.from ? shared.at + token : rest.at + token - rest.from
  },
  tokens: parts.tokens
})

/** The sequences side by side; those of a group share what they have in common at their beginning. */
export const make = (sequences: ReadonlyArray<Ids>, groups: ReadonlyArray<ReadonlyArray<number>>): Layout =>
  over(cut(sequences, groups), true)

/** The sequences side by side, nothing shared. */
export const apart = (sequences: ReadonlyArray<Ids>): Layout =>
  over(
    cut(
      sequences,
      sequences.map((_, i) => [i])
    ),
    false
  )

/** Whether feeds are those of a layout that may share. */
export const shares = (feeds: Session.Feeds): boolean => feeds["keys"] !== undefined

const feeds = (parts: Parts, shares: boolean): Session.Feeds => {
  const { tokens } = parts
  const laid = intoRows(parts)
  const { length, rows } = laid
  const before = shares ? laid.before : 0
  const [S, K] = [rows.length, before + length]
  // Where a row is not full, one token more stands: nothing depends on it, so its gradients are zero.
  const T = S * length === tokens ? tokens : tokens + 1
  const nobody = T - 1
  const ids = Array<number>(T).fill(0)
  const positions = Array<number>(T).fill(0)
  const queries = Array<number>(S * length).fill(nobody)
  const places = Array<number>(T).fill(0)
  const seen = new Float32Array(S * length * K).fill(masked)
  rows.forEach((row, s) => {
    let first = 0
    for (const { at, from, ids: own, to } of row) {
      for (let t = 0; t < to - from; t++) {
        const place = s * length + first + t
        ids[at + t] = own[from + t]!
        positions[at + t] = from + t
        places[at + t] = place
        queries[place] = at + t
        seen.fill(0, place * K, place * K + from)
        seen.fill(0, place * K + before + first, place * K + before + first + t + 1)
      }
      first += to - from
    }
  })
  if (T > tokens) places[nobody] = queries.indexOf(nobody)
  return {
    ids: Session.int64(ids, [T, 1]),
    positions: Session.int64(positions, [T, 1]),
    seen: Session.float32(seen, [S, 1, length, K]),
    queries: Session.int64(queries, [S, length]),
    places: Session.int64(places, [T]),
    ...(shares ? sharedFeeds(parts, laid, queries, T) : {})
  }
}

/** The feeds that say which beginnings rows share, given the queries of the rows, among so many tokens. */
const sharedFeeds = (
  { beginnings }: Parts,
  { before, length, rows }: Rows,
  queries: ReadonlyArray<number>,
  T: number
): Session.Feeds => {
  const [S, K, F] = [rows.length, before + length, beginnings.length + 1]
  const keys = Array<number>(S * K).fill(T - 1)
  const rowsOf = new Float32Array(F * S)
  // The last beginning is no row's, so what it gathers is zero.
  const inBeginnings = Array<number>(T).fill(beginnings.length * before)
  beginnings.forEach(({ at, to }, f) => {
    for (let t = 0; t < to; t++) inBeginnings[at + t] = f * before + t
  })
  rows.forEach(([part], s) => {
    const { beginning, from } = part!
    for (let l = 0; l < length; l++) keys[s * K + before + l] = queries[s * length + l]!
    if (beginning === undefined) return
    rowsOf[beginning * S + s] = 1
    for (let t = 0; t < from; t++) keys[s * K + t] = beginnings[beginning]!.at + t
  })
  return {
    keys: Session.int64(keys, [S, K]),
    beginnings: Session.int64(inBeginnings, [T]),
    rows_of: Session.float32(rowsOf, [F, S]),
    sizes: Session.int64([before, length], [2])
  }
}

/** How many tokens sequences have in common from the start. */
export const common = (sequences: ReadonlyArray<Ids>): number => {
  const [first, ...others] = sequences as [Ids, ...Array<Ids>]
  let count = first.length
  for (const other of others) {
    count = Math.min(count, other.length)
    for (let t = 0; t < count; t++) if (first[t] !== other[t]) count = t
  }
  return count
}

const together = (sequences: ReadonlyArray<Ids>): ReadonlyArray<ReadonlyArray<number>> => [sequences.map((_, i) => i)]

/** The tokens of sequences that share their beginning. */
export const familyTokens = (sequences: ReadonlyArray<Ids>): number => make(sequences, together(sequences)).tokens

/** Tokens that attend to this many others cost as much again as their linear maps do, about. */
const even = 1024

/** Whether sequences are computed sooner when they share their beginning. */
export const pays = (sequences: ReadonlyArray<Ids>): boolean => {
  const cost = (groups: ReadonlyArray<ReadonlyArray<number>>) => {
    const parts = cut(sequences, groups)
    const { before, length, rows } = intoRows(parts)
    return parts.tokens * even + rows.length * length * (before + length)
  }
  return sequences.length > 1 && cost(together(sequences)) < cost(sequences.map((_, i) => [i]))
}

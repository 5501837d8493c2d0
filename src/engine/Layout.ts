/**
 * Layout: how the rows of a micro-batch stand in its sequences [B, T].
 *
 * A row may have a sequence to itself, padded on the right; short rows may stand side by side in one; and rows that
 * begin alike, such as the two answers of a pair or all samples of a prompt, may share their beginning, which is then
 * computed once. Positions begin anew with each row, and a token sees what comes before it in its own row alone, so the
 * loss and its gradients are those of the rows by themselves. Pure.
 */
import { masked } from "../model/Transformer.ts"
import * as Session from "../onnx/Session.ts"

type Ids = ReadonlyArray<number>

/** Where the tokens of a micro-batch stand, and the feeds that say so. */
export interface Layout {
  /** int64 `ids` and `positions` [B, T], and the mask `causal` [B, 1, T, T], made anew as they are large. */
  readonly feeds: () => Session.Feeds
  /** The flat place b·T + t of a row's token. */
  readonly at: (row: number, token: number) => number
}

/** Rows, by index, of which the first `shared` tokens are the same and stand once. */
interface Family {
  readonly rows: ReadonlyArray<number>
  readonly shared: number
}

/** Sequences of families, side by side. */
const place = (rows: ReadonlyArray<Ids>, sequences: ReadonlyArray<ReadonlyArray<Family>>): Layout => {
  const size = (family: Family) => tokensOf(family, rows)
  const length = Math.max(...sequences.map((families) => families.reduce((n, family) => n + size(family), 0)))
  // A stretch of a row: its tokens [from, to) stand from `at` on, and see its first `from` tokens from `before` on.
  const stretches: Array<{ row: Ids; from: number; to: number; at: number; before: number; sequence: number }> = []
  const places = rows.map(() => ({ shared: 0, first: 0, rest: 0 }))
  sequences.forEach((families, sequence) => {
    let at = 0
    for (const { rows: members, shared } of families) {
      const before = at
      stretches.push({ row: rows[members[0]!]!, from: 0, to: shared, at, before, sequence })
      at += shared
      for (const member of members) {
        const row = rows[member]!
        places[member] = { shared, first: sequence * length + before, rest: sequence * length + at - shared }
        stretches.push({ row, from: shared, to: row.length, at, before, sequence })
        at += row.length - shared
      }
    }
  })
  return {
    feeds: () => {
      const ids = new BigInt64Array(sequences.length * length)
      const positions = new BigInt64Array(sequences.length * length)
      const mask = new Float32Array(sequences.length * length * length).fill(masked)
      for (const { at, before, from, row, sequence, to } of stretches) {
        for (let t = from; t < to; t++) {
          const flat = sequence * length + at + t - from
          ids[flat] = BigInt(row[t]!)
          positions[flat] = BigInt(t)
          mask.fill(0, flat * length + before, flat * length + before + from)
          mask.fill(0, flat * length + at, flat * length + at + t - from + 1)
        }
      }
      return {
        ids: new Session.Tensor("int64", ids, [sequences.length, length]),
        positions: new Session.Tensor("int64", positions, [sequences.length, length]),
        causal: Session.float32(mask, [sequences.length, 1, length, length])
      }
    },
    at: (row, token) => {
      const { first, rest, shared } = places[row]!
      return token + (token < shared ? first : rest)
    }
  }
}

const tokensOf = ({ rows: members, shared }: Family, rows: ReadonlyArray<Ids>): number =>
  members.reduce((n, row) => n + rows[row]!.length - shared, shared)

/** Each row in a sequence of its own. */
export const padded = (rows: ReadonlyArray<Ids>): Layout =>
  place(
    rows,
    rows.map((_, row) => [{ rows: [row], shared: 0 }])
  )

/** All rows side by side in one sequence. */
export const packed = (rows: ReadonlyArray<Ids>): Layout =>
  place(rows, [rows.map((_, row) => ({ rows: [row], shared: 0 }))])

/** The groups of rows each in a sequence, with the beginning that the rows of a group have in common only once. */
export const families = (rows: ReadonlyArray<Ids>, groups: ReadonlyArray<ReadonlyArray<number>>): Layout =>
  place(
    rows,
    groups.map((members) => [{ rows: members, shared: common(members.map((row) => rows[row]!)) }])
  )

/** How many tokens rows have in common from the start. */
export const common = (rows: ReadonlyArray<Ids>): number => {
  const [first, ...others] = rows as [Ids, ...Array<Ids>]
  let count = first.length
  for (const other of others) {
    count = Math.min(count, other.length)
    for (let t = 0; t < count; t++) if (first[t] !== other[t]) count = t
  }
  return count
}

/** The tokens of a sequence of rows that share their beginning. */
export const familyTokens = (rows: ReadonlyArray<Ids>): number =>
  tokensOf({ rows: rows.map((_, row) => row), shared: common(rows) }, rows)

/**
 * Tokens that attend to this many others cost as much again as their linear maps do, about: what is shared saves the
 * maps, but attention is computed over the whole sequence, what is masked included.
 */
const even = 1024

/** Whether rows are computed sooner in one sequence that shares their beginning than each in its own. */
export const pays = (rows: ReadonlyArray<Ids>): boolean => {
  const cost = (tokens: number) => tokens * (even + tokens)
  return rows.length > 1 && cost(familyTokens(rows)) < rows.reduce((n, row) => n + cost(row.length), 0)
}

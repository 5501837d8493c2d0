/**
 * DecodeBatch: the rows that are decoded together: prompts come in, tokens come out, and rows end.
 *
 * The rows in use are always the first ones, of the batch and of its cache.
 */
import { Effect } from "effect"
import type { ModelConfig } from "../model/ModelConfig.ts"
import * as Session from "../onnx/Session.ts"
import * as Adapters from "./Adapters.ts"
import { need, note, sampling } from "./DecodeJob.ts"
import type { Job } from "./DecodeJob.ts"
import * as KvCache from "./KvCache.ts"
import * as Prefill from "./Prefill.ts"
import * as Program from "./Program.ts"

/** The bounds of a batch. */
export interface Options {
  /** Bytes that keys and values may take. */
  readonly memory: number
  readonly maxRows: number
  /** Tokens that a row gets in one run at most. */
  readonly burst: number
}

/** The programs of a batch: one token of each row in a run, and several. */
export interface Sessions {
  readonly build: Session.Session
  readonly burst: Effect.Effect<Session.Session, Session.SessionError>
}

export interface DecodeBatch {
  /** What is decoded, a row each. */
  readonly active: ReadonlyArray<Job>
  /** How many of the first `waiting` jobs of a queue there is room for. */
  readonly room: (queue: ReadonlyArray<Job>, waiting: number) => number
  /** Takes jobs in, reads their prompts, and samples the first token of each. */
  readonly enter: (jobs: ReadonlyArray<Job>) => Effect.Effect<void, Session.SessionError>
  /** New tokens for every row: one, or a burst of them. */
  readonly advance: Effect.Effect<void, Session.SessionError>
  /** Takes the rows out that are finished. */
  readonly leave: () => ReadonlyArray<Job>
}

/**
 * Tokens of one run of a prefill, padding included: enough for products at full speed, and few enough that what lies
 * between two operators stays in the cache. It also bounds the length of a run, which nothing can interrupt.
 */
const prefillTokens = 512

/** Rows that the cache has room for at least. */
export const leastSlots = 2

/** An empty batch over a network with an adapter, as its weights are now. */
export const make = (
  config: ModelConfig,
  adapter: Adapters.Adapter | undefined,
  sessions: Sessions,
  { burst, maxRows, memory }: Options
): DecodeBatch => {
  const weights = adapter === undefined ? {} : Adapters.feeds(adapter)
  // One row alone would be multiplied with an adapter by other kernels, which round differently.
  const leastRows = adapter === undefined ? 1 : leastSlots
  const lastPosition = config.maxPositions - 1
  const emptyCache = () => KvCache.make(config, { memory, maxSlots: Math.max(leastSlots, maxRows) })
  let cache = emptyCache()
  const active: Array<Job> = []

  /** Runs the graph, sampling for each job at its flat position of `at`. */
  const run = (feeds: Session.Feeds, at: ReadonlyArray<number>, jobs: ReadonlyArray<Job>, width: number) => {
    const wanted = jobs.flatMap(({ plain }, i) => (plain ? [] : [i]))
    // A run that samples nothing reads a position all the same: tensors cannot be empty everywhere.
    const read = Math.max(leastRows, at.length)
    return sessions.build.run(
      {
        ...feeds,
        ...weights,
        ...sampling(jobs, read),
        last: Session.int64([...at, ...Array<number>(read - at.length).fill(0)], [read]),
        wanted: Session.int64(wanted, [wanted.length]),
        sizes: Session.int64([feeds["past_mask"]!.dims[3]!, width], [2])
      },
      ["token", "logprob", "probability", "rows", ...(wanted.length === 0 ? [] : ["logits"])]
    )
  }

  const prefill = Effect.fnUntraced(function* ({ copies, ends, rows, width }: Prefill.Run) {
    const slots = rows.map(({ slot }) => slot)
    const past = rows[0]!.start > 0
    const jobs = ends.map(({ slot }) => active[slot]!)
    const feeds: Session.Feeds = {
      ...Program.tokenFeeds(
        rows.map(({ ids }) => ids),
        width
      ),
      // What pads a row has a position, too, and the rotary tables end somewhere.
      positions: Session.int64(
        rows.flatMap(({ start }) => Array.from({ length: width }, (_, t) => Math.min(start + t, lastPosition))),
        [rows.length, width]
      ),
      ...(past ? cache.feeds(slots, true) : KvCache.emptyFeeds(config, rows.length))
    }
    const at = ends.map(({ row }) => row * width + rows[row]!.ids.length - 1)
    const results = yield* run(feeds, at, jobs, width)
    cache.append(
      Session.floats(results["rows"]!),
      rows.length,
      width,
      rows.map(({ ids, slot }, row) => ({ row, slot, tokens: ids.length }))
    )
    for (const { end, from, start, to } of copies) cache.copy(from, to, start, end)
    note(jobs, results)
  })

  /** What the next token of every row depends on. */
  const next = (rows: number): Session.Feeds => ({
    ids: Session.int64(
      Array.from({ length: rows }, (_, row) => active[row]?.tokenIds.at(-1) ?? 0),
      [rows, 1]
    ),
    positions: Session.int64(cache.lengths.subarray(0, rows), [rows, 1]),
    ...cache.feeds(Array.from({ length: rows }, (_, row) => row))
  })

  const one = (feeds: Session.Feeds) => {
    const causal = Session.float32(new Float32Array(1), [1, 1])
    const at = active.map((_, row) => row)
    return run({ ...feeds, causal }, at, active, 1)
  }

  const several = Effect.fnUntraced(function* (feeds: Session.Feeds, rows: number, steps: number) {
    const session = yield* sessions.burst
    return yield* session.run({
      ...feeds,
      ...weights,
      ...sampling(active, rows, steps),
      steps: Session.int64([steps], []),
      sizes: Session.int64([feeds["past_mask"]!.dims[3]!, steps], [2])
    })
  })

  return {
    active,
    room: (queue, waiting) => {
      let tokens = Math.max(cache.capacity(), ...active.map(({ request }) => need(request)))
      let count = 0
      while (count < waiting) {
        tokens = Math.max(tokens, need(queue[count]!.request))
        const slots = Math.min(maxRows, KvCache.slotsWithin(config, memory, tokens))
        if (active.length + count + 1 > slots) break
        count++
      }
      return count
    },
    enter: Effect.fnUntraced(function* (jobs) {
      const first = active.length
      active.push(...jobs)
      cache.reserve(Math.max(leastSlots, active.length), Math.max(...jobs.map(({ request }) => request.ids.length)) + 1)
      const prompts = active.map(({ request }, slot) => ({ slot, ids: request.ids }))
      const { copies, runs } = Prefill.plan(prompts.slice(first), prompts.slice(0, first), prefillTokens)
      for (const { end, from, start, to } of copies) cache.copy(from, to, start, end)
      for (const run of runs) yield* prefill(run)
    }),
    advance: Effect.gen(function* () {
      const rows = Math.max(leastRows, active.length)
      const left = Math.max(...active.map(({ request, tokenIds }) => request.maxTokens - tokenIds.length))
      const steps = active.every(({ plain }) => plain) ? Math.min(burst, left) : 1
      const feeds = next(rows)
      const results = yield* steps === 1 ? one(feeds) : several(feeds, rows, steps)
      const before = active.map(({ tokenIds }) => tokenIds.length)
      note(active, results)
      const writes = active.map(({ tokenIds }, row) => ({ row, slot: row, tokens: tokenIds.length - before[row]! }))
      cache.append(Session.floats(results["rows"]!), rows, steps, writes)
    }),
    leave: () => {
      const left: Array<Job> = []
      for (let i = active.length - 1; i >= 0; i--) {
        const job = active[i]!
        if (job.finish === undefined) continue
        // The last row takes the freed place.
        const last = active.length - 1
        if (i !== last) {
          cache.copy(last, i, 0, cache.lengths[last]!)
          active[i] = active[last]!
        }
        cache.lengths[last] = 0
        active.pop()
        left.push(job)
      }
      // What comes next may be shorter.
      if (active.length === 0) cache = emptyCache()
      return left
    }
  }
}

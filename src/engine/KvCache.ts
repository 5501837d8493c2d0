/**
 * KvCache: the keys and values of the tokens so far, in JavaScript memory.
 *
 * For each layer one array [slots, kvHeads, capacity, headDim]. The rows in use are always the first ones, so they can
 * be fed without a copy; the capacity grows in steps as the longest row does. All arrays together stay within a budget.
 */
import type { ModelConfig } from "../model/ModelConfig.ts"
import { masked } from "../model/Transformer.ts"
import * as Session from "../onnx/Session.ts"

/**
 * Capacities are multiples of this. What lies beyond a row's length is masked and adds exact zeros to sums, and their
 * order is that of whole blocks, so a row's results do not depend on the capacity that others need.
 */
export const block = 64

/** The share of the capacity up to which what is used is copied for a run of many tokens. */
const worthCopying = 0.7

export interface KvCache {
  /** The tokens that each slot holds. */
  readonly lengths: Int32Array
  /** The tokens that each slot has room for without growing. */
  readonly capacity: () => number
  /** Makes room for this many slots of this many tokens. */
  readonly reserve: (slots: number, tokens: number) => void
  /** Writes the new rows of keys and values of a run: row `row` of the run goes to slot `slot`. */
  readonly append: (rows: Float32Array, width: number, tokens: number, writes: ReadonlyArray<Write>) => void
  /** Copies the tokens [start, end) of a slot into another, which ends with them. */
  readonly copy: (from: number, to: number, start: number, end: number) => void
  /**
   * The feeds of some slots. Consecutive ones are not copied, or, for many new tokens, only where little of them is used:
   * each of these tokens attends over all columns, and a copy of those in use costs less.
   */
  readonly feeds: (slots: ReadonlyArray<number>, many?: boolean) => Session.Feeds
}

/** `tokens` new tokens of row `row` of a run go to slot `slot`, after those that it holds. */
export interface Write {
  readonly row: number
  readonly slot: number
  readonly tokens: number
}

const roundUp = (tokens: number): number => Math.ceil(tokens / block) * block

/** Bytes that slots of `tokens` tokens take, counting the one array that is there twice while the cache grows. */
export const bytes = (config: ModelConfig, slots: number, tokens: number): number =>
  (2 * config.layers + 1) * slots * config.kvHeads * roundUp(tokens) * config.headDim * 4

/** The slots of `tokens` tokens that fit into `memory` bytes. */
export const slotsWithin = (config: ModelConfig, memory: number, tokens: number): number =>
  Math.floor(memory / bytes(config, 1, tokens))

/** The feeds of a past without tokens for `count` rows. */
export const emptyFeeds = (config: ModelConfig, count: number): Session.Feeds => {
  const nothing = new Float32Array(0)
  const past = Session.float32(nothing, [count, config.kvHeads, 0, config.headDim])
  const feeds: Record<string, Session.Tensor> = { past_mask: Session.float32(nothing, [count, 1, 1, 0]) }
  for (let i = 0; i < config.layers; i++) {
    feeds[`key${i}`] = past
    feeds[`value${i}`] = past
  }
  return feeds
}

/** An empty cache of at most `maxSlots` slots; whoever fills it asks {@link slotsWithin} how many fit. */
export const make = (config: ModelConfig, options: { readonly memory: number; readonly maxSlots: number }): KvCache => {
  const { headDim, kvHeads, layers } = config
  const lengths = new Int32Array(options.maxSlots)
  let slots = 0
  let capacity = block
  const arrays = Array.from({ length: 2 * layers }, () => new Float32Array(0))

  /** Other sizes for the same contents. One array at a time is there twice. */
  const resize = (newSlots: number, newCapacity: number): void => {
    const old = capacity
    slots = newSlots
    capacity = newCapacity
    const used = lengths.findLastIndex((n) => n > 0) + 1
    for (const [i, from] of arrays.entries()) {
      const to = new Float32Array(slots * kvHeads * capacity * headDim)
      for (let h = 0; h < used * kvHeads; h++) {
        to.set(from.subarray(h * old * headDim, (h + 1) * old * headDim), h * capacity * headDim)
      }
      arrays[i] = to
    }
  }

  const most = (tokens: number) => Math.min(options.maxSlots, slotsWithin(config, options.memory, tokens))

  /** The arrays' parts for the slots [B, kvHeads, tokens, headDim]. */
  const parts = (
    of: ReadonlyArray<number>,
    many: boolean
  ): { readonly tokens: number; readonly data: Array<Float32Array> } => {
    const size = kvHeads * capacity * headDim
    const first = of[0]!
    const tokens = roundUp(Math.max(...of.map((slot) => lengths[slot]!)))
    if (of.every((slot, i) => slot === first + i) && !(many && tokens < worthCopying * capacity)) {
      const data = arrays.map((array) => array.subarray(first * size, (first + of.length) * size))
      return { tokens: capacity, data }
    }
    const data = arrays.map((array) => {
      const part = new Float32Array(of.length * kvHeads * tokens * headDim)
      of.forEach((slot, b) => {
        for (let h = 0; h < kvHeads; h++) {
          const from = slot * size + h * capacity * headDim
          part.set(array.subarray(from, from + tokens * headDim), (b * kvHeads + h) * tokens * headDim)
        }
      })
      return part
    })
    return { tokens, data }
  }

  return {
    lengths,
    capacity: () => capacity,
    reserve: (count, tokens) => {
      const needed = Math.max(capacity, roundUp(tokens))
      if (count <= slots && needed === capacity) return
      resize(Math.max(count, Math.min(count > slots ? 2 * slots : slots, most(needed))), needed)
    },
    append: (rows, width, tokens, writes) => {
      const longest = Math.max(...writes.map((w) => lengths[w.slot]! + w.tokens))
      if (longest > capacity) resize(Math.min(slots, most(longest)), roundUp(longest))
      for (let a = 0; a < arrays.length; a++) {
        const array = arrays[a]!
        for (const w of writes) {
          for (let h = 0; h < kvHeads; h++) {
            const from = ((a * width + w.row) * kvHeads + h) * tokens * headDim
            const to = ((w.slot * kvHeads + h) * capacity + lengths[w.slot]!) * headDim
            array.set(rows.subarray(from, from + w.tokens * headDim), to)
          }
        }
      }
      for (const w of writes) lengths[w.slot]! += w.tokens
    },
    copy: (from, to, start, end) => {
      for (const array of arrays) {
        for (let h = 0; h < kvHeads; h++) {
          const source = (from * kvHeads + h) * capacity
          const target = (to * kvHeads + h) * capacity
          array.copyWithin((target + start) * headDim, (source + start) * headDim, (source + end) * headDim)
        }
      }
      lengths[to] = end
    },
    feeds: (of, many = false) => {
      const { data, tokens } = parts(of, many)
      const mask = new Float32Array(of.length * tokens).fill(masked)
      of.forEach((slot, b) => mask.fill(0, b * tokens, b * tokens + lengths[slot]!))
      const feeds: Record<string, Session.Tensor> = { past_mask: Session.float32(mask, [of.length, 1, 1, tokens]) }
      const shape = [of.length, kvHeads, tokens, headDim]
      for (let i = 0; i < layers; i++) {
        feeds[`key${i}`] = Session.float32(data[i]!, shape)
        feeds[`value${i}`] = Session.float32(data[layers + i]!, shape)
      }
      return feeds
    }
  }
}

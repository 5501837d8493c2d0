/**
 * KvCache: the keys and values of the tokens so far, in JavaScript memory.
 *
 * For each layer one array [slots, kvHeads, capacity, headDim]. The rows in use are always the first ones, so they can
 * be fed without a copy; the capacity grows in steps as the longest row does.
 */
import type { ModelConfig } from "../model/ModelConfig.ts"
import * as Session from "../onnx/Session.ts"
import { masked } from "../model/Transformer.ts"

/** Capacities are multiples of this. */
const growth = 64

export interface KvCache {
  readonly slots: number
  /** The tokens that each row holds. */
  readonly lengths: Int32Array
  /** Writes the new rows of keys and values of a run: row `from[i]` of the run goes to slot `slots[i]`. */
  readonly append: (rows: Float32Array, width: number, tokens: number, writes: ReadonlyArray<Write>) => void
  /** Moves a row's contents to another slot. */
  readonly move: (from: number, to: number) => void
  /** The feeds of the first `count` rows. */
  readonly feeds: (count: number) => Session.Feeds
}

/** `tokens` new tokens of row `row` of a run go to slot `slot`, after those that it holds. */
export interface Write {
  readonly row: number
  readonly slot: number
  readonly tokens: number
}

/** Bytes of one token in one row. */
export const bytesPerToken = (config: ModelConfig): number => 2 * config.layers * config.kvHeads * config.headDim * 4

/** The feeds of an empty past for `count` rows: one masked column, as tensors cannot be empty everywhere. */
export const emptyFeeds = (config: ModelConfig, count: number): Session.Feeds => {
  const zeros = new Float32Array(count * config.kvHeads * config.headDim)
  const shape = [count, config.kvHeads, 1, config.headDim]
  const feeds: Record<string, Session.Tensor> = {
    past_mask: Session.float32(new Float32Array(count).fill(masked), [count, 1, 1, 1])
  }
  for (let i = 0; i < config.layers; i++) {
    feeds[`key${i}`] = Session.float32(zeros, shape)
    feeds[`value${i}`] = Session.float32(zeros, shape)
  }
  return feeds
}

/** An empty cache. */
export const make = (config: ModelConfig, slots: number): KvCache => {
  const { headDim, kvHeads, layers } = config
  const lengths = new Int32Array(slots)
  let capacity = growth
  const allocate = () => new Float32Array(slots * kvHeads * capacity * headDim)
  let arrays = Array.from({ length: 2 * layers }, allocate)

  const grow = (needed: number): void => {
    const old = capacity
    capacity = Math.ceil(needed / growth) * growth
    arrays = arrays.map((from) => {
      const to = allocate()
      for (let h = 0; h < slots * kvHeads; h++) {
        to.set(from.subarray(h * old * headDim, (h + 1) * old * headDim), h * capacity * headDim)
      }
      return to
    })
  }

  return {
    slots,
    lengths,
    append: (rows, width, tokens, writes) => {
      const longest = Math.max(...writes.map((w) => lengths[w.slot]! + w.tokens))
      if (longest > capacity) grow(longest)
      for (let a = 0; a < arrays.length; a++) {
        const array = arrays[a]!
        for (const w of writes) {
          for (let h = 0; h < kvHeads; h++) {
            const from = ((a * width + w.row) * kvHeads + h) * tokens * headDim
            const to = ((w.slot * kvHeads + h) * capacity + lengths[w.slot]!) * headDim
            const size = w.tokens * headDim
            // A view costs more than copying one short row by hand, and far less than copying a prompt.
            if (w.tokens > 1) array.set(rows.subarray(from, from + size), to)
            else for (let i = 0; i < size; i++) array[to + i] = rows[from + i]!
          }
        }
      }
      for (const w of writes) lengths[w.slot]! += w.tokens
    },
    move: (from, to) => {
      const size = kvHeads * capacity * headDim
      for (const array of arrays) array.copyWithin(to * size, from * size, (from + 1) * size)
      lengths[to] = lengths[from]!
    },
    feeds: (count) => {
      const size = kvHeads * capacity * headDim
      const mask = new Float32Array(count * capacity).fill(masked)
      for (let b = 0; b < count; b++) mask.fill(0, b * capacity, b * capacity + lengths[b]!)
      const feeds: Record<string, Session.Tensor> = { past_mask: Session.float32(mask, [count, 1, 1, capacity]) }
      const shape = [count, kvHeads, capacity, headDim]
      for (let i = 0; i < layers; i++) {
        feeds[`key${i}`] = Session.float32(arrays[i]!.subarray(0, count * size), shape)
        feeds[`value${i}`] = Session.float32(arrays[layers + i]!.subarray(0, count * size), shape)
      }
      return feeds
    }
  }
}

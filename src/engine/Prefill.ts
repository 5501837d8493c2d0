/**
 * Prefill: which runs bring new prompts into the cache. Pure.
 *
 * A prompt is read in blocks of {@link block} tokens, counted from its start, and a shorter rest, which gives the first
 * new token. How it is cut depends on the prompt alone, so a block's keys and values have the same bits whoever
 * computes them, and a block that another row holds is copied instead: a system prompt or few-shot examples are read
 * once, and so is a prompt of which several samples are drawn.
 */

/** Tokens of one block. */
export const block = 64

/** Rests are padded to multiples of this; those of different widths never share a run. */
const step = 16

/** A slot of the cache and the prompt that it holds or is to hold. */
export interface Prompt {
  readonly slot: number
  readonly ids: ReadonlyArray<number>
}

/** The tokens [start, end) of slot `from` are copied to slot `to`. */
export interface Copy {
  readonly from: number
  readonly to: number
  readonly start: number
  readonly end: number
}

/** One run: the tokens from `start` on of each row go to its slot, `width` of them at most. */
export interface Run {
  readonly width: number
  readonly rows: ReadonlyArray<{ readonly slot: number; readonly start: number; readonly ids: ReadonlyArray<number> }>
  /** The slots that get their first new token from this run, and the row that it is read off. */
  readonly ends: ReadonlyArray<{ readonly slot: number; readonly row: number }>
  /** What is copied after it. */
  readonly copies: ReadonlyArray<Copy>
}

/** Copies first, then runs in their order. */
export interface Plan {
  readonly copies: ReadonlyArray<Copy>
  readonly runs: ReadonlyArray<Run>
}

/** A node of the tree of prompts by block, with a slot that holds the blocks up to here. */
interface Node {
  readonly slot: number
  readonly children: Map<string, Node>
}

/** Whole blocks before the rest, which has 1 to `block` tokens. */
const wholeBlocks = (ids: ReadonlyArray<number>): number => Math.floor((ids.length - 1) / block)

/** Follows the blocks of a prompt as far as they are held; then adds them under its slot. The number that was held. */
const enter = (root: Node, { ids, slot }: Prompt): { readonly held: number; readonly from: number } => {
  let node = root
  let held = 0
  let from = -1
  for (let b = 0; b < wholeBlocks(ids); b++) {
    const key = ids.slice(b * block, (b + 1) * block).join()
    let next = node.children.get(key)
    if (next === undefined) {
      next = { slot, children: new Map() }
      node.children.set(key, next)
    } else if (held === b) {
      held = b + 1
      from = next.slot
    }
    node = next
  }
  return { held, from }
}

/** The plan for new prompts beside those that are `held`; a run has at most `maxTokens` tokens, padding included. */
export const plan = (prompts: ReadonlyArray<Prompt>, held: ReadonlyArray<Prompt>, maxTokens: number): Plan => {
  const root: Node = { slot: -1, children: new Map() }
  for (const prompt of held) enter(root, prompt)
  const old = new Set(held.map(({ slot }) => slot))

  // Of equal prompts the first is computed.
  const equal = new Map<string, { readonly prompt: Prompt; readonly others: Array<number> }>()
  for (const prompt of prompts) {
    const key = prompt.ids.join()
    const first = equal.get(key)
    if (first === undefined) equal.set(key, { prompt, others: [] })
    else first.others.push(prompt.slot)
  }
  const distinct = Array.from(equal.values(), ({ others, prompt }) => ({ ...prompt, others, ...enter(root, prompt) }))
  type Distinct = (typeof distinct)[number]
  const copyOf = ({ from, held, slot }: Distinct): Copy => ({ from, to: slot, start: 0, end: held * block })
  const copies = distinct.filter(({ from }) => old.has(from)).map(copyOf)

  const runs: Array<Run> = []
  const cut = (rows: ReadonlyArray<Distinct>, width: number, start: (row: Distinct) => number, isEnd: boolean) => {
    const most = Math.max(1, Math.floor(maxTokens / width))
    for (let at = 0; at < rows.length; at += most) {
      const part = rows.slice(at, at + most)
      runs.push({
        width,
        rows: part.map((row) => ({
          slot: row.slot,
          start: start(row),
          ids: row.ids.slice(start(row), start(row) + width)
        })),
        ends: isEnd ? part.flatMap(({ others, slot }, row) => [slot, ...others].map((slot) => ({ slot, row }))) : [],
        copies: isEnd
          ? part.flatMap(({ ids, others, slot }) => others.map((to) => ({ from: slot, to, start: 0, end: ids.length })))
          : []
      })
    }
  }

  const deepest = Math.max(0, ...distinct.map(({ ids }) => wholeBlocks(ids)))
  for (let b = 0; b < deepest; b++) {
    cut(
      distinct.filter(({ held, ids }) => held <= b && b < wholeBlocks(ids)),
      block,
      () => b * block,
      false
    )
    const ready = distinct.filter(({ from, held }) => held === b + 1 && !old.has(from)).map(copyOf)
    if (ready.length > 0) runs.push({ ...runs.pop()!, copies: ready })
  }
  // Rests by their padded width; those without a past are apart, as theirs is another graph of sums.
  const classes = new Map<string, Array<Distinct>>()
  for (const row of distinct) {
    const start = wholeBlocks(row.ids) * block
    const key = `${Math.ceil((row.ids.length - start) / step) * step} ${start > 0}`
    classes.set(key, [...(classes.get(key) ?? []), row])
  }
  for (const [key, rows] of classes) {
    cut(rows, Number.parseInt(key), ({ ids }) => wholeBlocks(ids) * block, true)
  }
  return { copies, runs }
}

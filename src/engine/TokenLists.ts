/**
 * TokenLists: many lists of tokens as a few arrays of numbers, in which a data set crosses to the engine's thread.
 *
 * A message of a hundred thousand small arrays keeps the asking thread for a tenth of a second. Here the tokens of all
 * lists stand one after the other, as Arrow has lists of a variable size
 * (https://arrow.apache.org/docs/format/Columnar.html), in chunks that are handed over and not copied.
 */

/** Lists of tokens. */
export interface TokenLists {
  /** The tokens of all lists, in arrays of one size, of which the last may be smaller. */
  readonly chunks: ReadonlyArray<Int32Array>
  /** Where each list ends among the tokens. */
  readonly ends: Int32Array
}

/** Tokens of a chunk. */
const size = 2 ** 16

/** Lists that are added one after the other. */
export interface Builder {
  readonly add: (ids: ReadonlyArray<number>) => void
  /** All lists so far; nothing is added after that. */
  readonly lists: () => TokenLists
}

/** No lists yet, to be filled in chunks of so many tokens. */
export const builder = (chunkSize: number = size): Builder => {
  const chunks: Array<Int32Array> = []
  const ends: Array<number> = []
  let count = 0
  return {
    add: (ids) => {
      for (const id of ids) {
        const at = count++ % chunkSize
        if (at === 0) chunks.push(new Int32Array(chunkSize))
        chunks.at(-1)![at] = id
      }
      ends.push(count)
    },
    lists: () => {
      const last = chunks.pop()
      // The room that is left in it is not sent.
      if (last !== undefined) chunks.push(last.slice(0, count - chunks.length * chunkSize))
      return { chunks, ends: Int32Array.from(ends) }
    }
  }
}

/** Lists of tokens, made of such arrays. */
export const of = (lists: ReadonlyArray<ReadonlyArray<number>>): TokenLists => {
  const made = builder()
  lists.forEach(made.add)
  return made.lists()
}

/** What is wrong with lists that are to be `count`, as the end of a sentence; undefined where nothing is. */
export const problem = ({ chunks, ends }: TokenLists, count: number): string | undefined => {
  if (ends.length !== count) return `${ends.length} lists of tokens for ${count} rows`
  const [whole, last] = [chunks[0]?.length ?? 0, chunks.at(-1)?.length ?? 0]
  if (last > whole || chunks.slice(0, -1).some(({ length }) => length !== whole)) {
    return "chunks of tokens of several sizes"
  }
  const strange = ends.findIndex((end, i) => end < (ends[i - 1] ?? 0))
  if (strange >= 0) return `a list of tokens, number ${strange + 1}, that ends before it begins`
  const tokens = chunks.reduce((sum, chunk) => sum + chunk.length, 0)
  return (ends.at(-1) ?? 0) > tokens ? `lists of ${ends.at(-1)} tokens in chunks of ${tokens}` : undefined
}

/** The lists, each as an array of its own; they have no {@link problem}. */
export const toArrays = ({ chunks, ends }: TokenLists): ReadonlyArray<Array<number>> => {
  const chunkSize = chunks[0]?.length ?? size
  return Array.from(ends, (end, i) => {
    const start = ends[i - 1] ?? 0
    return Array.from({ length: end - start }, (_, t) => {
      const at = start + t
      return chunks[Math.floor(at / chunkSize)]![at % chunkSize]!
    })
  })
}

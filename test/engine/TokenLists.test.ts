import { describe, expect, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as TokenLists from "../../src/engine/TokenLists.ts"

const made = (lists: ReadonlyArray<ReadonlyArray<number>>, chunkSize: number) => {
  const builder = TokenLists.builder(chunkSize)
  lists.forEach(builder.add)
  return builder.lists()
}

describe("TokenLists", () => {
  it("gives back what was put in, wherever chunks end", () => {
    const lists = fc.array(fc.array(fc.integer({ min: 0, max: 2 ** 31 - 1 }), { maxLength: 9 }), { maxLength: 9 })
    fc.assert(
      fc.property(lists, fc.integer({ min: 1, max: 7 }), (lists, chunkSize) => {
        const packed = made(lists, chunkSize)
        const tokens = lists.flat().length
        expect(TokenLists.problem(packed, lists.length)).toBeUndefined()
        expect(TokenLists.toArrays(packed)).toEqual(lists)
        expect(packed.chunks.reduce((sum, chunk) => sum + chunk.length, 0)).toBe(tokens)
        // What another thread gets is in memory of its own.
        expect(new Set(packed.chunks.map(({ buffer }) => buffer)).size).toBe(Math.ceil(tokens / chunkSize))
      })
    )
  })

  it("says what is wrong with lists that do not fit together", () => {
    const { chunks, ends } = made([[1, 2, 3], [4]], 2)
    const problem = (lists: Partial<TokenLists.TokenLists>) => TokenLists.problem({ chunks, ends, ...lists }, 2)
    expect(problem({})).toBeUndefined()
    expect(problem({ ends: Int32Array.of(4) })).toBe("1 lists of tokens for 2 rows")
    expect(problem({ ends: Int32Array.of(3, 1) })).toBe("a list of tokens, number 2, that ends before it begins")
    expect(problem({ ends: Int32Array.of(-1, 4) })).toBe("a list of tokens, number 1, that ends before it begins")
    expect(problem({ ends: Int32Array.of(3, 5) })).toBe("lists of 5 tokens in chunks of 4")
    const uneven = [Int32Array.of(1, 2), Int32Array.of(3), Int32Array.of(4, 5)]
    expect(problem({ chunks: uneven })).toBe("chunks of tokens of several sizes")
    expect(problem({ chunks: uneven.slice(1) })).toBe("chunks of tokens of several sizes")
  })
})

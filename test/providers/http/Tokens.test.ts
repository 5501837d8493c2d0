import { assert, describe, it } from "@effect/vitest"
import * as Tokens from "../../../src/providers/http/Tokens.ts"

describe("the tokens of a call", () => {
  it("are what the server counts, or else no less than they may be", () => {
    const atMost = { input: 100, output: 5 }
    const taken = (input: unknown, output: unknown, text = "four words, so to say") =>
      Tokens.taken({ input, output }, text, atMost)
    assert.deepStrictEqual(taken(3, 0), { input: 3, output: 0 })
    // The server knows better, also where it took more than was reserved.
    assert.deepStrictEqual(taken(300, 700), { input: 300, output: 700 })
    assert.deepStrictEqual(taken(undefined, 7), { input: 100, output: 7 })
    assert.deepStrictEqual(taken(7, null), { input: 7, output: 5 })
    assert.deepStrictEqual(taken(7, undefined, "word"), { input: 7, output: 2 })
    for (const none of [-1, 1.5, NaN, 2 ** 53, "3"])
      assert.deepStrictEqual(taken(none, none, ""), { input: 100, output: 0 })
  })

  it("are estimated at a third of the letters, rounded up", () => {
    assert.deepStrictEqual(["", "a", "abc", "abcd"].map(Tokens.estimate), [0, 1, 1, 2])
  })

  it("cost what a million of each kind cost", () => {
    const tokens = Tokens.add({ input: 1_000_000, output: 100_000 }, { input: 500_000, output: 100_000 })
    assert.deepStrictEqual(tokens, { input: 1_500_000, output: 200_000 })
    assert.strictEqual(Tokens.total(tokens), 1_700_000)
    assert.closeTo(Tokens.cost(tokens, { input: 3, output: 15 }), 4.5 + 3, 1e-12)
    assert.strictEqual(Tokens.cost(Tokens.zero, { input: 3, output: 15 }), 0)
  })
})

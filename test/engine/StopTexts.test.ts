import { describe, expect, it } from "@effect/vitest"
import * as StopTexts from "../../src/engine/StopTexts.ts"
import type { Tokenizer } from "../../src/model/Tokenizer.ts"

/** Tokens of one byte each, as a byte-level vocabulary has them for a script that it does not know. */
const bytes = (text: string): ReadonlyArray<number> => [...Buffer.from(text)]
const decode = (ids: ReadonlyArray<number>): string => Buffer.from(ids).toString()

describe("a stop text", () => {
  it("is recognised when its last token is there, however many tokens its characters take", () => {
    const stop = "終わり。申し訳ありませんが、終わり。"
    const stops = StopTexts.recognise(["no", stop], decode)
    const said = bytes(`はい。${stop}`)
    expect(stops(said)).toBe(true)
    expect(stops(said.slice(0, -1))).toBe(false)
  })

  it("is found behind what comes before it, but not long after it", () => {
    const stops = StopTexts.recognise(["stop"], decode)
    expect(stops(bytes("a long answer, and then: stop"))).toBe(true)
    expect(stops(bytes("stop, said at the beginning of a long answer"))).toBe(false)
  })

  it("is there with the special tokens that it has in it, and without those that stand in its middle", () => {
    const special = 256
    const decodeAll: Tokenizer["decode"] = (ids, options) =>
      ids.map((id) => (id < special ? decode([id]) : options?.skipSpecialTokens === true ? "" : "<|pad|>")).join("")
    const stops = StopTexts.recognise(["Human:", "|>!"], decodeAll)
    const pads = (count: number) => Array.from({ length: count }, () => special)
    for (const count of [1, 7, 100]) {
      const said = [...bytes("Hu"), ...pads(count), ...bytes("man"), ...pads(count), ...bytes(":")]
      expect(stops(said)).toBe(true)
      expect(stops(said.slice(0, -1))).toBe(false)
      expect(stops([...said.slice(0, -1), ...bytes(";")])).toBe(false)
      expect(stops([...pads(count), ...bytes("!")])).toBe(true)
    }
  })

  it("is not made of texts with white space between them, which some decoders take away from a beginning", () => {
    const [space, special] = [32, 256]
    const strips: Tokenizer["decode"] = (ids, options) =>
      ids
        .map((id) => (id < special ? decode([id]) : options?.skipSpecialTokens === true ? "" : "<|pad|>"))
        .join("")
        .replace(/^ /, "")
    const stops = StopTexts.recognise(["ab"], strips)
    expect(stops([...bytes("a"), space, ...bytes("b")])).toBe(false)
    expect(stops([...bytes("a"), special, space, ...bytes("b")])).toBe(false)
    expect(stops([...bytes("a"), special, ...bytes("b")])).toBe(true)
  })
})

import { describe, expect, it } from "@effect/vitest"
import * as PostProcessor from "../../src/model/PostProcessor.ts"

const text = { Sequence: { id: "A", type_id: 0 } }
const token = (id: string) => ({ SpecialToken: { id, type_id: 0 } })
const special_tokens = {
  "<s>": { id: "<s>", ids: [1], tokens: ["<s>"] },
  "<two>": { id: "<two>", ids: [2, 3], tokens: ["<a>", "<b>"] },
  "</s>": { id: "</s>", ids: [4], tokens: ["</s>"] }
}
const template = (...single: ReadonlyArray<object>) => ({ type: "TemplateProcessing", single, special_tokens })
const sequence = (...processors: ReadonlyArray<object>) => ({ type: "Sequence", processors })

describe("the tokens in front of a text", () => {
  it("are those of a template before the text, of which one may be several", () => {
    expect(PostProcessor.start(template(token("<s>"), token("<two>"), text, token("</s>")))).toEqual([1, 2, 3])
    expect(PostProcessor.start(template(text, token("</s>")))).toEqual([])
    expect(PostProcessor.start(template(token("<s>"), token("<two>")))).toEqual([1, 2, 3])
    expect(PostProcessor.start(template(token("unknown"), text))).toEqual([])
  })

  it("are the first of the two that BERT's and RoBERTa's kinds have", () => {
    for (const type of ["BertProcessing", "RobertaProcessing"]) {
      expect(PostProcessor.start({ type, cls: ["<s>", 1], sep: ["</s>", 4] })).toEqual([1])
    }
  })

  it("are put by each of a sequence in front of what is there", () => {
    const [first, second] = [template(token("<s>"), text), template(token("<two>"), text)]
    expect(PostProcessor.start(sequence({ type: "ByteLevel" }, first, second))).toEqual([2, 3, 1])
    expect(PostProcessor.start(sequence(sequence(second), first))).toEqual([1, 2, 3])
    // One that puts nothing there says so, unlike one of another kind.
    expect(PostProcessor.start(sequence({ type: "ByteLevel" }, template(text)))).toEqual([])
    expect(PostProcessor.start(sequence({ type: "ByteLevel" }))).toBeUndefined()
  })

  it("are unknown where nothing says so", () => {
    for (const json of [null, undefined, "TemplateProcessing", {}, { type: "ByteLevel" }]) {
      expect(PostProcessor.start(json)).toBeUndefined()
    }
  })
})

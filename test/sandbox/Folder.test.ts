import { readFileSync } from "node:fs"
import { Tokenizer } from "@huggingface/tokenizers"
import { describe, expect, it } from "vitest"
import * as Corpus from "../../src/sandbox/Corpus.ts"
import * as Folder from "../../src/sandbox/Folder.ts"
import { marker, markers } from "../../src/sandbox/Transcript.ts"
import * as Vocabulary from "../../src/sandbox/Vocabulary.ts"

const tokenizer = new Tokenizer(Folder.tokenizer(), Folder.tokenizerConfig())
const encode = (text: string): Array<number> => tokenizer.encode(text, { add_special_tokens: false }).ids
const isByte = (id: number) => id >= markers.length && id < markers.length + 256

describe("the folder", () => {
  it("is what the script wrote", () => {
    for (const [name, text] of Object.entries(Folder.files())) {
      expect(readFileSync(new URL(`../../assets/sandbox/${name}`, import.meta.url), "utf8"), name).toBe(text)
    }
  })

  it("stops generation at every marker", () => {
    expect(Folder.generationConfig().eos_token_id).toEqual(markers.map((text) => encode(text)[0]))
  })

  it("lists both kinds of principle and the comparisons for benign prompts", () => {
    const lines = Folder.constitution().split("\n")
    const count = (letter: string) => lines.filter((line) => line.startsWith(`  - id: ${letter}`)).length
    expect([count("r"), count("c"), count("h")]).toEqual([16, 16, 3])
    expect(lines.filter((line) => line.includes("#") || line.split(": ").length > 2)).toEqual([])
  })
})

describe("the tokenizer", () => {
  it("has one id a token", () => {
    expect(new Set(Vocabulary.tokens).size).toBe(Vocabulary.tokens.length)
    expect(Folder.config().vocab_size).toBe(Vocabulary.tokens.length)
  })

  it("gives a token to every word of the corpus and the same text back", () => {
    const used = new Set<number>()
    let longest = 0
    for (let i = 0; i < 2000; i++) {
      const document = Corpus.document(13, i)
      const text = Corpus.text(document)
      const ids = encode(text)
      expect(tokenizer.decode(ids)).toBe(text)
      expect(document.segments.flatMap((segment) => encode(segment.text))).toEqual(ids)
      for (const id of ids) used.add(id)
      longest = Math.max(longest, ids.length)
    }
    expect([...used].filter(isByte)).toEqual([])
    expect(longest).toBeLessThanOrEqual(170)
    expect(longest).toBeGreaterThan(140)
  })

  it("encodes whatever a person types", () => {
    for (const text of ["Ünïcode 123!?", "  a\n\n\nb   choose  ", "中文\t🎉 x\n", "how do i bake a cake?"]) {
      expect(tokenizer.decode(encode(text))).toBe(text)
    }
  })

  it("begins a text with end-of-text unless told otherwise", () => {
    expect(tokenizer.encode(" sure").ids).toEqual([Vocabulary.markerId(marker.end), ...encode(" sure")])
    expect(encode("which response")).toHaveLength(2)
  })
})

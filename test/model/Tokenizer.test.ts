import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fc from "fast-check"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as Tokenizer from "../../src/model/Tokenizer.ts"
import * as RealModel from "./realModel.ts"
import { temporaryFolder } from "./temporaryFolder.ts"

const fixture = Effect.promise(async () => {
  const file = path.join(import.meta.dirname, "../fixtures/smollm2.json")
  const json: { tokenizer: Array<{ text: string; ids: Array<number>; decoded: string }> } = JSON.parse(
    await fs.readFile(file, "utf8")
  )
  return json.tokenizer
})

/** The smallest byte-level tokenizer that can say "hi" and knows one special token. */
const small = {
  version: "1.0",
  added_tokens: [
    { id: 3, content: "<s>", special: true, normalized: false, lstrip: false, rstrip: false, single_word: false }
  ],
  normalizer: null,
  pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
  post_processor: null,
  decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
  model: { type: "BPE", vocab: { h: 0, i: 1, hi: 2 }, merges: [["h", "i"]] }
}

const write = Effect.fnUntraced(function* (config: object, change: object = {}) {
  const dir = yield* temporaryFolder
  const json = JSON.stringify({ ...small, ...change })
  yield* Effect.promise(() => fs.writeFile(path.join(dir, "tokenizer.json"), json))
  yield* Effect.promise(() => fs.writeFile(path.join(dir, "tokenizer_config.json"), JSON.stringify(config)))
  return dir
})

describe("Tokenizer", () => {
  it.effect("recognises special tokens in the text and adds none", () =>
    Effect.gen(function* () {
      const tokenizer = yield* Tokenizer.load(yield* write({ bos_token: "<s>", eos_token: { content: "<s>" } }))
      expect(tokenizer.encode("<s>hi")).toEqual([3, 2])
      expect(tokenizer.decode([3, 2, 999])).toBe("<s>hi")
      expect(tokenizer.decode([3, 2], { skipSpecialTokens: true })).toBe("hi")
      expect(tokenizer.decode([3], { skipSpecialTokens: true })).toBe("")
      expect([tokenizer.size, tokenizer.idOf("hi"), tokenizer.idOf("no")]).toEqual([4, 2, undefined])
      expect([...tokenizer.specialIds]).toEqual([3])
      expect([tokenizer.start, tokenizer.eos]).toEqual([[], 3])
    })
  )

  it.effect("knows the tokens that only the configuration adds, and those whose names only an older file has", () =>
    Effect.gen(function* () {
      const added = (content: string, special: boolean) => ({
        ...small.added_tokens[0],
        id: undefined,
        content,
        special
      })
      const decoder = { 3: added("<s>", true), 4: added("<tool>", true), 5: added("hi", false) }
      const tokenizer = yield* Tokenizer.load(yield* write({ added_tokens_decoder: decoder }))
      expect(tokenizer.encode("hi<tool>hi")).toEqual([2, 4, 2])
      expect(tokenizer.decode([2, 4], { skipSpecialTokens: true })).toBe("hi")
      expect([tokenizer.size, ...tokenizer.specialIds]).toEqual([5, 3, 4])

      const dir = yield* write({ eos_token: "hi", add_bos_token: true })
      const older = { bos_token: "<s>", eos_token: { content: "<s>" }, additional_special_tokens: ["i"] }
      yield* Effect.promise(() => fs.writeFile(path.join(dir, "special_tokens_map.json"), JSON.stringify(older)))
      const { eos, start } = yield* Tokenizer.load(dir)
      expect([start, eos]).toEqual([[3], 3])
      // Where the configuration has all tokens, the older file says nothing.
      yield* Effect.promise(() =>
        fs.writeFile(
          path.join(dir, "tokenizer_config.json"),
          JSON.stringify({ eos_token: "hi", add_bos_token: true, added_tokens_decoder: {} })
        )
      )
      const newer = yield* Tokenizer.load(dir)
      expect([newer.start, newer.eos]).toEqual([[], 2])
    })
  )

  it.effect("gives nothing back of what a possessive quantifier has matched, and counts characters, as in Rust", () =>
    Effect.gen(function* () {
      const model = { type: "BPE", vocab: { Ċ: 0, ĊĊ: 1, a: 2, ð: 4, Ł: 5, Ļ: 6, Ĥ: 7 }, merges: [["Ċ", "Ċ"]] }
      const encoder = Effect.fnUntraced(function* (split: object) {
        const bytes = { ...small.pre_tokenizer, use_regex: false }
        const pre_tokenizer = { type: "Sequence", pretokenizers: [split, bytes] }
        return (yield* Tokenizer.load(yield* write({}, { model, pre_tokenizer }))).encode
      })
      // Of cl100k: white space at the end, or else up to a line's end. A greedy one would match one line break here.
      const regex = "\\p{L}++|\\s++$|\\s*[\\r\\n]"
      const possessive = { type: "Split", pattern: { Regex: regex }, behavior: "Isolated", invert: false }
      expect((yield* encoder(possessive))("\n\na\n\n")).toEqual([1, 2, 1])
      expect((yield* encoder({ type: "FixedLength", length: 1 }))("\n\n🙂")).toEqual([0, 0, 4, 5, 6, 7])
    })
  )

  it.effect("removes what a pattern matches as a whole, whatever its end would be by itself", () =>
    Effect.gen(function* () {
      const model = { type: "BPE", vocab: { h: 0, i: 1, ".": 2, "\r": 3, "\n": 4 }, merges: [] }
      const encoder = Effect.fnUntraced(function* (pattern: object) {
        const pre_tokenizer = { type: "Split", pattern, behavior: "Removed", invert: false }
        return (yield* Tokenizer.load(yield* write({}, { model, decoder: null, pre_tokenizer }))).encode
      })
      const dots = yield* encoder({ String: ".." })
      expect(["h..i", "h....i", "h...i", "...."].map(dots)).toEqual([[0, 1], [0, 1], [0, 2, 1], []])
      // What a group has found is not put back, nor what a possessive quantifier has.
      const ends = yield* encoder({ Regex: "(\\r)(?=\\n)\\n|i++" })
      expect(["h\r\nh\r", "\r\n\r\n", "hiih"].map(ends)).toEqual([[0, 0, 3], [], [0, 0]])
    })
  )

  it.effect("cuts where a pattern matches nothing, too, whatever the behavior", () =>
    Effect.gen(function* () {
      const vocab = {
        "<unk>": 0,
        a: 1,
        ab: 2,
        " ": 3,
        " x": 4,
        "x ": 5,
        xx: 6,
        " xx": 7,
        "xx ": 8,
        "12": 9,
        " b": 10,
        "🙂🙂": 11
      }
      const encoder = Effect.fnUntraced(function* (Regex: string, behavior: string, invert: boolean) {
        const pre_tokenizer = { type: "Split", pattern: { Regex }, behavior, invert }
        const model = { type: "WordLevel", vocab, unk_token: "<unk>" }
        return (yield* Tokenizer.load(yield* write({}, { model, decoder: null, pre_tokenizer }))).encode
      })
      // What Python's tokenizers 0.23 makes of them.
      const expected = [
        ["Isolated", [2, 9, 4], [1, 3, 6, 3, 0], [1, 3, 6, 3, 0]],
        ["Removed", [2, 9, 4], [1, 3, 3, 0], [6]],
        ["Contiguous", [2, 9, 4], [1, 3, 6, 3, 0], [1, 3, 6, 3, 0]],
        ["MergedWithPrevious", [2, 9, 4], [1, 7, 3, 0], [1, 3, 8, 0]],
        ["MergedWithNext", [2, 9, 4], [1, 3, 8, 0], [1, 7, 3, 0]]
      ] as const
      for (const [behavior, ahead, many, inverted] of expected) {
        expect((yield* encoder("(?<=\\p{L})(?=\\p{N})|(?=\\s)", behavior, false))("ab12 x")).toEqual(ahead)
        expect((yield* encoder("x*", behavior, false))("a xx b")).toEqual(many)
        expect((yield* encoder("x*", behavior, true))("a xx b")).toEqual(inverted)
      }
      // There is no end of a text within a character.
      expect((yield* encoder("$", "Isolated", false))("🙂🙂")).toEqual([11])
    })
  )

  it.effect("puts a space in front of bytes, and cuts at Unicode's white space then, too", () =>
    Effect.gen(function* () {
      const pre_tokenizer = { ...small.pre_tokenizer, add_prefix_space: true }
      // A mark of the byte order, with and without the space before it, is none; a next line is.
      const vocab = { Ġ: 0, h: 1, Ġh: 2, "Ġï»¿": 3, "ï»¿": 4, Âħ: 5 }
      const model = { type: "WordLevel", vocab, unk_token: "h" }
      const { encode } = yield* Tokenizer.load(yield* write({}, { model, pre_tokenizer }))
      expect(["h", " h", "\ufeffh", "h\ufeff", "\u0085h"].map(encode)).toEqual([[2], [2], [3, 1], [2, 4], [0, 5, 1]])
    })
  )

  it.effect("puts no space in front of bytes that go on after a text, but again behind a token that is added", () =>
    Effect.gen(function* () {
      const spaced = { ...small.pre_tokenizer, add_prefix_space: true }
      const model = { type: "BPE", vocab: { h: 0, i: 1, hi: 2, Ġ: 4, Ċ: 5 }, merges: [["h", "i"]] }
      for (const pre_tokenizer of [spaced, { type: "Sequence", pretokenizers: [spaced] }]) {
        const { encode, encodeAfter } = yield* Tokenizer.load(yield* write({}, { model, pre_tokenizer }))
        const texts = ["hi", " hi", "\nhi", "hi<s>hi"]
        expect(texts.map(encode)).toEqual([
          [4, 2],
          [4, 2],
          [4, 5, 2],
          [4, 2, 3, 4, 2]
        ])
        expect(texts.map(encodeAfter)).toEqual([[2], [4, 2], [5, 2], [2, 3, 4, 2]])
      }
    })
  )

  it.effect("merges where its file does not name the kind of its model, as the first ones did not", () =>
    Effect.gen(function* () {
      const { type: _, ...model } = small.model
      const { encode } = yield* Tokenizer.load(yield* write({}, { model }))
      expect(encode("hihi")).toEqual([2, 2])
      const prefixed = { ...model, unk_token: null, continuing_subword_prefix: "##" }
      const refused = yield* Effect.flip(Tokenizer.load(yield* write({}, { model: prefixed })))
      expect(refused.message).toContain("continuing_subword_prefix")
    })
  )

  it.effect("merges what stands on both sides of a character that it has no token for, as in Rust", () =>
    Effect.gen(function* () {
      const pre_tokenizer = { ...small.pre_tokenizer, use_regex: false }
      const encoder = Effect.fnUntraced(function* (change: object) {
        const model = { ...small.model, ...change }
        return (yield* Tokenizer.load(yield* write({}, { model, pre_tokenizer }))).encode
      })
      const none = yield* encoder({ unk_token: null })
      expect(["h\u0006i", "\u0006\u0006hi\u0006", "hh\u0006", "\u0006"].map(none)).toEqual([[2], [2], [0, 0], []])
      // A token for what is unknown, or for its bytes, stands between them.
      const vocab = { ...small.model.vocab, "<unk>": 4 }
      expect((yield* encoder({ unk_token: "<unk>", vocab }))("h\u0006i")).toEqual([0, 4, 1])
      const bytes = { ...small.model.vocab, "<0xC4>": 4, "<0x86>": 5 }
      expect((yield* encoder({ byte_fallback: true, vocab: bytes }))("h\u0006i")).toEqual([0, 4, 5, 1])
    })
  )

  it.effect("finds added tokens with the white space around them as in Rust", () =>
    Effect.gen(function* () {
      const token = (id: number, content: string, more: object) => ({ ...small.added_tokens[0], id, content, ...more })
      const tokens = [token(6, "<a>", { rstrip: true }), token(7, " <b>", {}), token(8, "<c>", { lstrip: true })]
      const model = { type: "BPE", vocab: { h: 0, "\ufeff": 1, " ": 2, "▁": 4, "\x85": 5 }, merges: [] }
      const change = { added_tokens: tokens, model, decoder: null, pre_tokenizer: null }
      const { encode } = yield* Tokenizer.load(yield* write({}, change))
      // A token keeps a space of its own that one before it takes, too; white space is Unicode's.
      expect(encode("<a> <b>h")).toEqual([6, 7, 0])
      expect(encode("<a> \x85\ufeff h")).toEqual([6, 1, 2, 0])
      expect(encode("h\ufeff \x85<c>")).toEqual([0, 1, 8])

      // A mark in front of a text does not stand behind a token.
      const normalized = [token(6, "<a>", { normalized: true })]
      const mark = { type: "Metaspace", replacement: "▁", prepend_scheme: "first", split: false }
      const other = { ...change, added_tokens: normalized, pre_tokenizer: mark, normalizer: { type: "NFC" } }
      const marked = yield* Tokenizer.load(yield* write({}, other))
      expect(marked.encode("h<a>h")).toEqual([4, 0, 6, 0])
      expect(marked.encode("<a>h")).toEqual([6, 0])
    })
  )

  it.effect(
    "gives a token the white space up to the next one, to the text's ends, and before others look for theirs",
    () =>
      Effect.gen(function* () {
        const token = (id: number, content: string, more: object) => ({
          ...small.added_tokens[0],
          id,
          content,
          ...more
        })
        const added_tokens = [
          token(3, "<l>", { lstrip: true }),
          token(4, "<r>", { rstrip: true }),
          token(5, "<m>", { lstrip: true, rstrip: true }),
          // Looked for last, though nothing normalises the text.
          token(6, "  ", { normalized: true })
        ]
        const model = { type: "BPE", vocab: { h: 0, " ": 1, "\n": 2 }, merges: [] }
        const { encode } = yield* Tokenizer.load(
          yield* write({}, { added_tokens, model, decoder: null, pre_tokenizer: null })
        )
        // As Rust's tokenizers has them.
        for (const [text, ids] of [
          [" <l> ", [3, 1]],
          ["h \n<l>h", [0, 3, 0]],
          [" <r>\n h", [1, 4, 0]],
          ["<r> \n", [4]],
          ["<r> <l> h", [4, 3, 1, 0]],
          ["<r> <m> <l>", [4, 5, 3]],
          ["h<m>h", [0, 5, 0]],
          [" \n<m>\n h", [5, 0]],
          ["h  h", [0, 6, 0]],
          ["h   h", [0, 6, 1, 0]],
          ["<r>  h", [4, 0]],
          ["h  <l>", [0, 3]],
          ["<m>  <m>", [5, 5]]
        ] as const) {
          expect(encode(text), text).toEqual(ids)
        }
      })
  )

  it.effect("goes by its own file alone, not by what a configuration has for tokenizers of another kind", () =>
    Effect.gen(function* () {
      const model = { type: "BPE", vocab: { h: 0, i: 1, Ġ: 2, H: 4, Ã: 5, "©": 6 }, merges: [] }
      const config = { remove_space: true, do_lowercase_and_remove_accent: true }
      const { encode } = yield* Tokenizer.load(yield* write(config, { model }))
      expect(encode(" Hi  hé")).toEqual([2, 4, 1, 2, 2, 0, 5, 6])
    })
  )

  it.effect("knows a text's first token where the configuration asks for it", () =>
    Effect.gen(function* () {
      const tokenizer = yield* Tokenizer.load(yield* write({ bos_token: "<s>", add_bos_token: true }))
      expect([tokenizer.start, tokenizer.eos]).toEqual([[3], undefined])
      expect(tokenizer.encode("hi")).toEqual([2])
    })
  )

  it.effect("knows a text's first token where the post-processor puts it there, as transformers does", () =>
    Effect.gen(function* () {
      const text = { Sequence: { id: "A", type_id: 0 } }
      const token = { SpecialToken: { id: "<s>", type_id: 0 } }
      const template = (single: ReadonlyArray<object>, ids = [3]) => ({
        type: "TemplateProcessing",
        single,
        pair: single,
        special_tokens: { "<s>": { id: "<s>", ids, tokens: ["<s>"] } }
      })
      const byteLevel = { type: "ByteLevel", add_prefix_space: true, trim_offsets: false, use_regex: true }
      const start = (post_processor: object, config: object = {}) =>
        Effect.flatMap(write({ bos_token: "<s>", ...config }, { post_processor }), (dir) =>
          Effect.map(Tokenizer.load(dir, 4), (tokenizer) => tokenizer.start)
        )
      expect(yield* start(template([token, text]))).toEqual([3])
      expect(yield* start({ type: "Sequence", processors: [byteLevel, template([token, text])] })).toEqual([3])
      expect(yield* start(template([text, token]))).toEqual([])
      const [cls, sep] = [
        ["<s>", 3],
        ["hi", 2]
      ]
      expect(
        yield* start({ type: "RobertaProcessing", cls, sep, trim_offsets: true, add_prefix_space: false })
      ).toEqual([3])
      expect(yield* start({ type: "BertProcessing", cls, sep })).toEqual([3])
      // The template has the last word, whatever the configuration asks for.
      expect(yield* start(template([token, text]), { add_bos_token: false })).toEqual([3])
      expect(yield* start(template([text]), { add_bos_token: true })).toEqual([])
      expect(yield* start(byteLevel, { add_bos_token: true })).toEqual([3])
      expect((yield* Effect.flip(start(template([token, text], [4])))).message).toContain(
        "tokenizer.json starts a text with the tokens [4], which the model does not have"
      )
    })
  )

  it.effect("says what is wrong with a folder", () =>
    Effect.gen(function* () {
      const dir = yield* write({ eos_token: 5 })
      const message = Effect.map(Effect.flip(Tokenizer.load(dir)), (error) => error.message)
      expect(yield* message).toContain("tokenizer_config.json is not understood")
      yield* Effect.promise(() => fs.rm(path.join(dir, "tokenizer_config.json")))
      expect((yield* Tokenizer.load(dir)).eos).toBeUndefined()
      for (const broken of ["{}", "[]", "null", `{"model":{"type":"X"}}`]) {
        yield* Effect.promise(() => fs.writeFile(path.join(dir, "tokenizer.json"), broken))
        expect(yield* message).toContain("tokenizer.json is not understood")
      }
      yield* Effect.promise(() => fs.rm(path.join(dir, "tokenizer.json")))
      expect(yield* message).toContain("has no tokenizer.json")
    })
  )
})

describe("Tokenizer and a model", () => {
  it.effect("have to have the same vocabulary, but for added tokens beyond it", () =>
    Effect.gen(function* () {
      const dir = yield* write({ bos_token: "<s>" })
      const message = (vocabSize: number) =>
        Effect.map(Effect.flip(Tokenizer.load(dir, vocabSize)), (error) => error.message)
      expect((yield* Tokenizer.load(dir, 4)).size).toBe(4)
      expect(yield* message(2)).toContain("tokenizer.json has the token 2 where the model's vocabulary has 2")
      // The added token is beyond the vocabulary here: it matters only where a text needs it.
      expect(yield* message(3)).toContain("tokenizer_config.json has as bos_token the token 3")
      yield* Effect.promise(() => fs.rm(path.join(dir, "tokenizer_config.json")))
      expect((yield* Tokenizer.load(dir, 3)).encode("<s>hi")).toEqual([3, 2])
    })
  )

  it.effect("refuse tokens that are none before they do harm", () =>
    Effect.gen(function* () {
      const dir = yield* write({})
      const refusal = Effect.fnUntraced(function* (change: object, model: object = {}) {
        const json = { ...small, ...change, model: { ...small.model, ...model } }
        yield* Effect.promise(() => fs.writeFile(path.join(dir, "tokenizer.json"), JSON.stringify(json)))
        return (yield* Effect.flip(Tokenizer.load(dir))).message
      })
      expect(yield* refusal({}, { vocab: { h: 2 ** 31 } })).toContain(`it gives "h" the id 2147483648`)
      expect(yield* refusal({}, { vocab: { h: "0" } })).toContain(`it gives "h" the id "0"`)
      expect(yield* refusal({}, { vocab: [["h", null]] })).toContain(`has ["h",null] in its vocabulary`)
      expect(yield* refusal({}, { vocab: undefined })).toContain("it has no vocabulary")
      expect(yield* refusal({}, { merges: [["h"]] })).toContain("merges that are no pairs")
      expect(yield* refusal({ added_tokens: [{ id: 1, content: "" }] })).toContain("lacks an id or a text")
      expect(yield* refusal({ added_tokens: [{ id: 3, content: "<s>", single_word: true }] })).toContain(
        `it has the added token "<s>" with single_word, which Charter does not know`
      )
      expect(yield* refusal({}, { continuing_subword_prefix: "##" })).toContain(`the continuing_subword_prefix "##"`)
      const first = { type: "Metaspace", replacement: "▁", prepend_scheme: "first", split: true }
      const behind = { type: "Sequence", pretokenizers: [{ type: "WhitespaceSplit" }, first] }
      expect(yield* refusal({ pre_tokenizer: behind })).toContain("the prepend_scheme first")
      const group = { type: "Split", pattern: { Regex: "(?>a+)b" }, behavior: "Isolated", invert: false }
      expect(yield* refusal({ pre_tokenizer: group })).toContain("an atomic group")
      expect(yield* refusal({ pre_tokenizer: { type: "FixedLength", length: 0 } })).toContain("has the length 0")
      const slow = { type: "Split", pattern: { Regex: "(.*.*)*#" }, behavior: "Isolated", invert: false }
      expect(yield* refusal({ pre_tokenizer: slow })).toContain("it takes longer than 2 s")
    })
  )
})

describe.skipIf(!RealModel.exists)("Tokenizer of a real model", () => {
  it.effect("agrees with transformers", () =>
    Effect.gen(function* () {
      const tokenizer = yield* Tokenizer.load(RealModel.dir)
      for (const { decoded, ids, text } of yield* fixture) {
        expect(tokenizer.encode(text)).toEqual(ids)
        expect(tokenizer.decode(ids)).toBe(decoded)
      }
      expect([tokenizer.size, tokenizer.eos, tokenizer.start]).toEqual([49152, 2, []])
      expect(tokenizer.idOf("<|im_start|>")).toBe(1)
    })
  )

  it.effect("splits as the Rust library does where JavaScript's classes differ", () =>
    Effect.gen(function* () {
      const tokenizer = yield* Tokenizer.load(RealModel.dir)
      expect(tokenizer.encode("w\r\n\u0085")).toEqual([103, 2738, 141, 223])
      expect(tokenizer.encode("\r\n\ufeffa")).toEqual([201, 198, 186, 136, 140, 81])
      expect(tokenizer.encode("  \u00bd")).toEqual([256, 16738])
      // A control character that no token stands for.
      expect(tokenizer.encode("  \u0006##")).toEqual([216, 15530])
    })
  )

  it.effect("gives every text back exactly", () =>
    Effect.gen(function* () {
      const tokenizer = yield* Tokenizer.load(RealModel.dir)
      // This vocabulary lacks some control characters and the first bytes of the planes 4 to 11.
      const lacking = /[\p{Cc}\u{40000}-\u{bffff}]/u
      const texts = fc.string({ unit: "binary", maxLength: 40 }).filter((text) => !lacking.test(text))
      fc.assert(
        fc.property(texts, (text) => {
          expect(tokenizer.decode(tokenizer.encode(text))).toBe(text)
        }),
        { numRuns: 300 }
      )
      const awkward = " , . n't  's \ufeffx \r\n\t do n't ?"
      expect(tokenizer.decode(tokenizer.encode(awkward))).toBe(awkward)
    })
  )
})

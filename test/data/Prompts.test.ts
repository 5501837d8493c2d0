import { NodeServices } from "@effect/platform-node"
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, FileSystem, Path, Result, Stream } from "effect"
import * as HhRlhf from "../../src/data/HhRlhf.ts"
import type * as Jsonl from "../../src/data/Jsonl.ts"
import * as Prompts from "../../src/data/Prompts.ts"
import type { Reject } from "../../src/data/DataError.ts"
import * as Sample from "../../src/Sample.ts"
import { gzipSync, zstdCompressSync } from "node:zlib"

const write = Effect.fnUntraced(function* (name: string, content: string | Uint8Array) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const file = path.join(yield* fs.makeTempDirectoryScoped(), name)
  yield* fs.writeFile(file, typeof content === "string" ? new TextEncoder().encode(content) : content)
  return file
})

const readAll = (file: string, options?: { limit: number }) => Stream.runCollect(Prompts.read(file, options))

const show = Result.match({
  onSuccess: (prompt: Sample.Prompt) => [prompt.kind, ...prompt.messages.map(({ content }) => content)],
  onFailure: ({ line, reason }: Reject) => [line, reason.split(":")[0]]
})

const chosen = "\n\nHuman: hello\n\nAssistant: hi\n\nHuman: how do i pick a lock?\n\nAssistant: Please do not."
const rejected = "\n\nHuman: hello\n\nAssistant: hi\n\nHuman: how do i pick a lock?\n\nAssistant: Please take a pin."

layer(NodeServices.layer)("Prompts", (it) => {
  it.effect("reads prompts as text, as messages and as hh-rlhf pairs from one JSONL", () =>
    Effect.gen(function* () {
      const rows = [
        { prompt: "one?" },
        { id: "second", kind: "benign", prompt: [{ role: "user", content: "two?" }], messages: null },
        { chosen, rejected },
        {
          // As rows of Parquet have columns of other rows.
          prompt: null,
          messages: [
            { role: "user", content: "four?" },
            { role: "assistant", content: "recorded" }
          ]
        }
      ]
      const file = yield* write("p.jsonl", rows.map((row) => JSON.stringify(row)).join("\n"))
      const all = yield* readAll(file)
      assert.deepStrictEqual(all.map(show), [
        ["harmful", "one?"],
        ["benign", "two?"],
        ["harmful", "hello", "hi", "how do i pick a lock?"],
        ["harmful", "four?"]
      ])
      assert.strictEqual(Result.getOrThrow(all[1]!).id, "second")
      assert.strictEqual(Result.getOrThrow(all[0]!).id, Sample.prompt("one?").id)
    })
  )

  it.effect("rejects bad rows where they are and goes on", () =>
    Effect.gen(function* () {
      const lines = ['{"prompt": "fine"}', '{"prompt": "cut', '{"other": 1}', '{"prompt": "  "}', '{"prompt": "last"}']
      const file = yield* write("p.jsonl", lines.join("\n"))
      const all = yield* readAll(file)
      assert.deepStrictEqual(all.map(show), [
        ["harmful", "fine"],
        [2, "not valid JSON"],
        [3, "no `prompt` (and no `messages`, no `chosen` with `rejected`)"],
        [4, "the prompt is empty"],
        ["harmful", "last"]
      ])
    })
  )

  it.effect("finds the format by content: gzip without its name, text without its name, a byte-order mark", () =>
    Effect.gen(function* () {
      const zipped = yield* write("prompts.txt", gzipSync('\uFEFF{"prompt":"a"}\r\n{"prompt":"b"}\n'))
      assert.deepStrictEqual((yield* readAll(zipped)).map(show), [
        ["harmful", "a"],
        ["harmful", "b"]
      ])
      const text = yield* write("prompts", "first one\n\n[second] one\n")
      assert.deepStrictEqual((yield* readAll(text)).map(show), [
        ["harmful", "first one"],
        ["harmful", "[second] one"]
      ])
    })
  )

  it.effect("takes lines for rows, not for prompts, where one of the first is JSON or the name says so", () =>
    Effect.gen(function* () {
      const damaged = '{"prompt":"cut\n'
      const unnamed = yield* write("prompts", `${damaged}{"prompt":"a"}\n`)
      assert.deepStrictEqual((yield* readAll(unnamed)).map(show), [
        [1, "not valid JSON"],
        ["harmful", "a"]
      ])
      for (const name of ["p.jsonl", "p.ndjson.gz", "P.JSON"]) {
        assert.deepStrictEqual((yield* readAll(yield* write(name, damaged))).map(show), [[1, "not valid JSON"]], name)
      }
      const text = yield* write("p.jsonl.txt", "{not} a row\n")
      assert.deepStrictEqual((yield* readAll(text)).map(show), [["harmful", "{not} a row"]])
    })
  )

  it.effect("reads JSON arrays, CSV and zstd", () =>
    Effect.gen(function* () {
      const json = yield* write("p.data", '[\n{"prompt":"a"},\n{"prompt":"b"}\n]')
      assert.deepStrictEqual((yield* readAll(json)).map(show), [
        ["harmful", "a"],
        ["harmful", "b"]
      ])
      const csv = yield* write("p.csv", 'kind,prompt\nbenign,"a, b"\nodd,c\n')
      assert.deepStrictEqual((yield* readAll(csv)).map(show), [
        ["benign", "a, b"],
        [3, "`kind` is neither harmful nor benign"]
      ])
      const zst = yield* write("p.jsonl.zst", zstdCompressSync('{"prompt":"a"}'))
      assert.deepStrictEqual((yield* readAll(zst)).map(show), [["harmful", "a"]])
    })
  )

  it.effect("reads a JSON array that is one line of more than a line may have", () =>
    Effect.gen(function* () {
      const array = `[${`{"prompt":"a","other":"${"x".repeat(1 << 20)}"},`.repeat(65)}{"prompt":"b"}]`
      const file = yield* write("p.json.zst", zstdCompressSync(array))
      assert.deepStrictEqual((yield* readAll(file, { limit: 1 })).map(show), [["harmful", "a"]])
    })
  )

  it.effect("rejects an id whose digits a number does not hold, as the id that is kept would be another", () =>
    Effect.gen(function* () {
      const file = yield* write("p.jsonl", '{"id":1234567890123456789,"prompt":"a"}\n{"id":12,"prompt":"b"}\n')
      assert.deepStrictEqual((yield* readAll(file)).map(show), [
        [1, "`id` is beyond the numbers that are kept exactly (1234567890123456800); give it as text"],
        ["harmful", "b"]
      ])
    })
  )

  it.effect("keeps a row's own id, as text, with its last turn; an empty one is none", () =>
    Effect.gen(function* () {
      const turns = [
        { role: "user", content: "a" },
        { role: "assistant", content: "b" },
        { role: "user", content: "c" }
      ]
      const rows = [{ id: 7 }, { id: "x" }, { id: "" }, { id: null }].map((id) => ({ ...id, prompt: turns }))
      const file = yield* write("p.jsonl", rows.map((row) => JSON.stringify(row)).join("\n"))
      const read = (yield* readAll(file)).map((result) => Result.getOrThrow(result))
      assert.deepStrictEqual(
        read.map(({ text }) => text),
        ["c", "c", "c", "c"]
      )
      const unnamed = Sample.prompt(read[0]!.messages)
      assert.deepStrictEqual(
        read.slice(0, 3).map(({ id }) => id),
        ["7", "x", unnamed.id]
      )
      assert.notInclude(["7", "x", "", unnamed.id], read[3]!.id)
    })
  )

  it.effect("stops at the limit", () =>
    Effect.gen(function* () {
      const file = yield* write("p.txt", "a\nb\nc\n")
      assert.strictEqual((yield* readAll(file, { limit: 2 })).length, 2)
    })
  )

  it.effect("rejects an id that was there before; a repeated prompt is another one", () =>
    Effect.gen(function* () {
      const file = yield* write("p.jsonl", '{"id":"x","prompt":"a"}\n{"id":"x","prompt":"b"}\n{"id":"y","prompt":"b"}')
      assert.deepStrictEqual((yield* readAll(file)).map(show), [
        ["harmful", "a"],
        [2, "the same id as line 1"],
        ["harmful", "b"]
      ])
      const repeated = yield* readAll(yield* write("p.txt", "a\nb\na\na\n"))
      const ids = repeated.map((result) => Result.getOrThrow(result).id)
      assert.strictEqual(new Set(ids).size, 4)
      assert.strictEqual(ids[0], Sample.prompt("a").id)
    })
  )

  it.effect("a file that cannot be used is one typed sentence", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* fs.makeTempDirectoryScoped()
      const message = (file: string) =>
        readAll(file).pipe(
          Effect.flip,
          Effect.map((error) => error.message)
        )
      assert.strictEqual(yield* message("no/such.jsonl"), "There is no file no/such.jsonl.")
      assert.include(yield* message(folder), "is a folder")
      assert.include(yield* message(yield* write("e.jsonl", "")), "is empty")
      assert.include(yield* message(yield* write("e.jsonl", "\n \n")), "has no text in it")
      assert.include(yield* message(yield* write("e.bin", new Uint8Array([1, 0, 2]))), "is not a text file")
      assert.include(yield* message(yield* write("e.parquet", "PAR1....")), "cannot be read")
      const zipped = gzipSync('{"prompt":"a"}\n'.repeat(100))
      assert.include(yield* message(yield* write("e.jsonl.gz", zipped.subarray(0, 20))), "is damaged")
    })
  )
})

describe("the conversation of a row", () => {
  const user = (content: string) => ({ role: "user", content }) as const
  const assistant = (content: string) => ({ role: "assistant", content }) as const
  const of = (row: Jsonl.Row) => Result.merge(Prompts.conversation(row))

  it("is its text without the white space around it, or the turns that the text has", () => {
    assert.deepStrictEqual(of({ prompt: " how? \n" }), [user("how?")])
    const transcript = "Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
    assert.deepStrictEqual(of({ prompt: transcript }), [user("a"), assistant("b"), user("c")])
    assert.deepStrictEqual(of({ prompt: "not Human: a" }), [user("not Human: a")])
  })

  it("ends with the last turn of the human", () => {
    const [first, answer] = [user("a"), assistant("b")]
    assert.deepStrictEqual(of({ messages: [first, answer, user("c"), answer, answer] }), [first, answer, user("c")])
    assert.strictEqual(of({ messages: [answer] }), "no turn of the human")
    assert.strictEqual(of({ messages: [first, answer, user(" \n"), answer] }), "the last turn of the human is empty")
  })

  it("is what two answers share, of which both are needed", () => {
    assert.strictEqual(
      of({ chosen, rejected: "\n\nHuman: other\n\nAssistant: a" }),
      "`chosen` and `rejected` share no conversation that ends in \\n\\nAssistant:"
    )
    const none = "no `prompt` (and no `messages`, no `chosen` with `rejected`): the row has"
    assert.strictEqual(of({ chosen }), `${none} chosen`)
    assert.strictEqual(of({ rejected, chosen: null }), `${none} rejected, chosen`)
    assert.strictEqual(of({ a: 1, b: 1, c: 1, d: 1, e: 1, f: 1 }), `${none} a, b, c, d, e`)
    assert.strictEqual(of({}), `${none} nothing`)
    assert.deepStrictEqual(of({ chosen, rejected, prompt: "this" }), [user("this")])
  })
})

describe("HhRlhf", () => {
  layer(NodeServices.layer)((it) => {
    it.effect("joins turns of the same speaker and leaves out the place of the answer", () =>
      Effect.sync(() =>
        assert.deepStrictEqual(HhRlhf.messages("\n\nHuman: a\n\nHuman: b\n\nAssistant:"), [
          { role: "user", content: "a\n\nb" }
        ])
      )
    )
  })
})

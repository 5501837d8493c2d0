import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Cause, Effect, Exit, FileSystem, Path, Result, Stream } from "effect"
import * as fc from "fast-check"
import { gzipSync, zstdCompressSync } from "node:zlib"
import type { DataError, Reject } from "../../src/data/DataError.ts"
import * as Files from "../../src/data/Files.ts"
import * as Jsonl from "../../src/data/Jsonl.ts"
import * as Parquet from "../../src/data/Parquet.ts"
import * as Prompts from "../../src/data/Prompts.ts"
import * as Records from "../../src/data/Records.ts"
import * as Random from "../../src/Random.ts"

const bytes = (...parts: ReadonlyArray<string | ReadonlyArray<number>>) =>
  Buffer.concat(parts.map((part) => (typeof part === "string" ? Buffer.from(part) : Buffer.from(part))))

const temporary = Effect.fnUntraced(function* (name: string, content: Uint8Array) {
  const fs = yield* FileSystem.FileSystem
  const file = (yield* Path.Path).join(yield* fs.makeTempDirectoryScoped(), name)
  yield* fs.writeFile(file, content)
  return file
})

const shown = <A>(results: ReadonlyArray<Result.Result<A, Reject>>, of: (value: A) => unknown) =>
  results.map(Result.match({ onSuccess: of, onFailure: ({ line, reason }): unknown => `${line}: ${reason}` }))

/** The values of `prompt`, and what was rejected. */
const prompts = (file: string) =>
  Effect.map(Stream.runCollect(Files.read(file)), (all) => shown(all, ({ row }) => row["prompt"]))

const sentence = (effect: Effect.Effect<unknown, DataError, FileSystem.FileSystem>) =>
  Effect.map(Effect.flip(effect), ({ message }) => message)

const one = '{"prompt":"one"}\n'
const two = '{"prompt":"two"}\n'

/** A frame of one block that is not packed, and of which a reader is to keep the last 2^28 bytes. */
const longWindow = (text: string) =>
  bytes([0x28, 0xb5, 0x2f, 0xfd, 0, (28 - 10) << 3, ((text.length << 3) | 1) & 0xff, text.length >> 5, 0], text)

/** Before each frame `pzstd` writes one to skip, with the length of the next. */
const pzstd = (...parts: ReadonlyArray<string>) =>
  Buffer.concat(
    parts
      .map((part) => zstdCompressSync(part))
      .flatMap((frame) => [bytes([0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, frame.length, 0, 0, 0]), frame])
  )

layer(NodeServices.layer)("what people's files have in them", (it) => {
  const good: ReadonlyArray<readonly [what: string, name: string, content: Uint8Array]> = [
    ["a byte-order mark", "a.jsonl", bytes("\uFEFF", one, two)],
    ["a byte-order mark in CSV", "a.csv", bytes('\uFEFFprompt\n"one"\ntwo')],
    ["a byte-order mark in JSON", "a.json", bytes('\uFEFF[{"prompt":"one"}, {"prompt":"two"}]')],
    ["a byte-order mark in text", "a.txt", bytes("\uFEFFone\ntwo")],
    ["CRLF and empty lines", "a.jsonl", bytes('\r\n{"prompt":"one"}\r\n\r\n \r\n{"prompt":"two"}\r\n')],
    ["CRLF and empty lines in CSV", "a.csv", bytes("prompt\r\n\r\none\r\ntwo\r\n")],
    ["CRLF and empty lines in text", "a.txt", bytes("one\r\n\r\ntwo\r\n")],
    ["a name that says gzip and lies", "a.jsonl.gz", bytes(one, two)],
    ["gzip without saying so", "a.jsonl", gzipSync(bytes(one, two))],
    ["gzip of several members", "a.jsonl.gz", Buffer.concat([gzipSync(one), gzipSync(two)])],
    ["zstd of several frames", "a.jsonl.zst", Buffer.concat([zstdCompressSync(one), zstdCompressSync(two)])],
    ["zstd with a window of 256 MiB, as of zstd --long=28", "a.jsonl.zst", longWindow(one + two)],
    ["zstd of frames with a note before each", "a.jsonl.zst", pzstd(one, two)]
  ]
  for (const [what, name, content] of good) {
    it.effect(`${what} is read`, () =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* prompts(yield* temporary(name, content)), ["one", "two"])
      })
    )
  }

  const spoilt: ReadonlyArray<readonly [what: string, name: string, content: Uint8Array, reason: string]> = [
    ["bytes that are no UTF-8", "a.jsonl", bytes(one, '{"prompt":"', [0xff, 0xfe], '"}\n', two), "2: not valid UTF-8"],
    ["bytes that are no UTF-8 in CSV", "a.csv", bytes("prompt\none\n", [0xff], "\ntwo\n"), "3: not valid UTF-8"],
    ["a NUL byte", "a.jsonl", bytes(one, '{"prompt":"a\0b"}\n', two), "2: a NUL byte, which text does not have"],
    ["a NUL byte in CSV", "a.csv", bytes("prompt\none\na\0b\ntwo\n"), "3: a NUL byte, which text does not have"],
    ["a NUL byte in text", "a.txt", bytes("one\na\0b\ntwo\n"), "2: a NUL byte, which text does not have"],
    ["a name that stands twice", "a.jsonl", bytes(one, '{"prompt":"a","prompt" :"b"}\n', two), "2: an object with two"],
    [
      "such a name within",
      "a.jsonl",
      bytes(one, '{"x":[{"y":1,"\\u0079":2}]}\n', two),
      "2: an object with two values of `y`"
    ],
    ["a JSON array on a line", "a.jsonl", bytes(one, "[1]\n", two), "2: not a JSON object but an array"],
    ["a record with too few cells", "a.csv", bytes("prompt,b\none,1\nx\ntwo,2\n"), "3: 1 cells under a header of 2"],
    ["a record with too many", "a.csv", bytes("prompt\none\nx,y\ntwo\n"), "3: 2 cells under a header of 1"]
  ]
  for (const [what, name, content, reason] of spoilt) {
    it.effect(`${what} costs its row alone`, () =>
      Effect.gen(function* () {
        const all = yield* prompts(yield* temporary(name, content))
        assert.deepStrictEqual([all[0], all[2], all.length], ["one", "two", 3])
        assert.include(all[1], reason)
      })
    )
  }

  it.effect("a quote that is not closed takes no other rows with it where megabytes follow", () =>
    Effect.gen(function* () {
      // More characters than a regular expression can go through one by one.
      const large = "words and ".repeat(1_000_000)
      const all = yield* prompts(yield* temporary("a.csv", bytes(`prompt\none\n"two\n${large}\n`)))
      assert.deepStrictEqual(all, ["one", "3: cell 1: a quote that is not closed; the record goes on to line 4"])
    })
  )

  it.effect("a quote that is not closed says how far it goes", () =>
    Effect.gen(function* () {
      const all = yield* prompts(yield* temporary("a.csv", bytes('prompt\none\n"two\nthree\n')))
      assert.deepStrictEqual(all, ["one", "3: cell 1: a quote that is not closed; the record goes on to line 4"])
    })
  )

  it.effect("a line of 100 MB is rejected with its number", () =>
    Effect.gen(function* () {
      const long = Buffer.alloc(100 * 2 ** 20, "x")
      const file = yield* temporary("a.jsonl", Buffer.concat([bytes(one), long, bytes("\n", two)]))
      assert.deepStrictEqual(yield* prompts(file), ["one", `2: longer than ${Records.maxBytes} bytes`, "two"])
    })
  )

  const unusable: ReadonlyArray<readonly [what: string, name: string, content: Uint8Array, words: string]> = [
    [
      "UTF-16",
      "a.jsonl",
      bytes([0xff, 0xfe], Buffer.from(one, "utf16le") as never),
      "is UTF-16 text; save it as UTF-8"
    ],
    ["UTF-16 without a mark", "a.csv", Buffer.from("prompt\none\n", "utf16le"), "is not a text file"],
    ["a spreadsheet", "a.csv", bytes([0x50, 0x4b, 3, 4], "sheet"), "save it as CSV"],
    ["text packed by xz", "a.jsonl", bytes([0xfd], "7zXZ", [0], "more"), "is packed by xz, which is not read; unpack"],
    ["text packed by bzip2", "a.jsonl", bytes("BZh91AY&SY", [0x9f]), "is packed by bzip2, which is not read"],
    ["text packed by lz4", "a.jsonl", bytes([4], '"M', [0x18, 0x64]), "is packed by lz4, which is not read"],
    ["Parquet under another name", "a.jsonl", bytes("PAR1"), "give it a name that ends in .parquet"],
    ["JSONL under the name of Parquet", "a.parquet", bytes(one), "as Parquet, it cannot be read"],
    ["an empty Parquet", "a.parquet", bytes(), "is empty"],
    ["JSONL under the name of JSON", "a.json", bytes(one, two), "objects on lines of their own are JSONL"],
    ["a column that stands twice", "a.csv", bytes("a,a\n1,2"), "two columns named `a`"],
    ["a name that says nothing", "a.doc", bytes(one), "says no format; known are .jsonl"]
  ]
  for (const [what, name, content, words] of unusable) {
    it.effect(`${what} is one sentence with the file's name`, () =>
      Effect.gen(function* () {
        const file = yield* temporary(name, content)
        const message = yield* sentence(prompts(file))
        assert.include(message, words)
        assert.include(message, file)
      })
    )
  }

  it.effect("a torn gzip says how far it is whole, after its rows", () =>
    Effect.gen(function* () {
      const rows = Array.from({ length: 20_000 }, (_, i) => `{"prompt":"${(i * 7919) % 10007} ${i * i}"}\n`).join("")
      const whole = gzipSync(rows)
      const file = yield* temporary("a.jsonl.gz", whole.subarray(0, whole.length / 2))
      let count = 0
      const reading = Stream.runForEach(Files.read(file), () => Effect.sync(() => count++))
      const message = yield* sentence(reading)
      assert.isAbove(count, 1000)
      assert.include(message, `cannot be unpacked to its end; fetch it again. Its first ${count} lines are whole.`)
    })
  )

  it.effect("zstd of which a later frame is torn, or what follows is no frame, says how far it is whole", () =>
    Effect.gen(function* () {
      for (const rest of [zstdCompressSync(two).subarray(0, -3), Buffer.from("other things")]) {
        const file = yield* temporary("a.jsonl.zst", Buffer.concat([zstdCompressSync(one), rest]))
        assert.include(
          yield* sentence(prompts(file)),
          "cannot be unpacked to its end; fetch it again. Its first line is whole."
        )
      }
    })
  )

  it.effect("Parquet with lists of messages is read; one that is cut off or overwritten is one sentence", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const file = yield* temporary("a.parquet", bytes())
      const turns = [
        { role: "user", content: "one" },
        { role: "assistant", content: "x" }
      ]
      const columns = { messages: { list: { struct: { role: "string", content: "string" } } } } as const
      yield* Stream.make({ messages: turns }, { messages: [] }).pipe(Parquet.write(file, columns))
      const all = yield* Stream.runCollect(Prompts.read(file))
      assert.deepStrictEqual(
        shown(all, ({ text }) => text),
        ["one", "2: no turn of the human"]
      )
      const whole = yield* fs.readFile(file)
      const overwritten = Uint8Array.from(whole, (byte, i) => (i > 20 && i < 60 ? 7 : byte))
      for (const content of [whole.subarray(0, whole.length - 9), overwritten]) {
        yield* fs.writeFile(file, content)
        assert.include(yield* sentence(Stream.runCollect(Parquet.read(file))), `${file}: `)
      }
    })
  )

  it.effect("Parquet with wrong bytes is rows or one sentence, and never a crash or an endless loop", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const file = yield* temporary("a.parquet", bytes())
      const columns = { prompt: "string", n: "int", messages: { list: { struct: { content: "string" } } } } as const
      const rows = Stream.range(1, 40).pipe(
        Stream.map((n) => ({ prompt: `prompt ${n % 7}`, n, messages: [{ content: `${n}` }] }))
      )
      yield* rows.pipe(Parquet.write(file, columns, { rowGroup: 20 }))
      const whole = yield* fs.readFile(file)
      const seed = 17
      let damaged = 0
      for (let n = 0; n < 150; n++) {
        const random = Random.make(seed, "wrong bytes", n)
        const content = Uint8Array.from(whole)
        for (let i = 0; i <= n % 3; i++) content[Math.floor(random.next() * whole.length)] = random.next() * 256
        yield* fs.writeFile(file, content)
        const exit = yield* Effect.exit(Stream.runCollect(Parquet.read(file)))
        if (Exit.isSuccess(exit)) continue
        assert.strictEqual((Cause.squash(exit.cause) as DataError)._tag, "DataError", `seed ${seed}, case ${n}`)
        damaged++
      }
      assert.isAbove(damaged, 50)
    })
  )

  it.effect("deep nesting and half a text end in a row or a reason, never in a crash", () =>
    Effect.gen(function* () {
      const deep = `{"prompt":"a","x":${"[".repeat(100_000)}${"]".repeat(100_000)}}`
      assert.isTrue(Result.isSuccess(Jsonl.parse(deep)))
      const text = JSON.stringify({ 'a":': [{ ':"\\': ": {" }], b: '":"' })
      assert.isTrue(Result.isSuccess(Jsonl.parse(text)))
      for (let end = 0; end < text.length; end++) assert.isTrue(Result.isFailure(Jsonl.parse(text.slice(0, end))))
      yield* Effect.void
    })
  )

  it.effect("every name that JSON.parse would drop is found, and none that is there once", () =>
    Effect.sync(() => {
      const name = fc.oneof(fc.constantFrom("a", '":', "\\", '"', ":", "a b", "{"), fc.string())
      fc.assert(
        fc.property(fc.array(fc.tuple(name, fc.jsonValue({ maxDepth: 2 })), { maxLength: 5 }), (entries) => {
          const text = `{${entries.map(([key, value]) => `${JSON.stringify(key)} : ${JSON.stringify(value)}`).join(",")}}`
          const twice = new Set(entries.map(([key]) => key)).size < entries.length
          assert.strictEqual(Result.isFailure(Jsonl.parse(text)), twice)
        }),
        { seed: 11 }
      )
    })
  )
})

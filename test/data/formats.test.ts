import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem, Path, Result, Stream } from "effect"
import * as fc from "fast-check"
import { parquetWriteFile } from "hyparquet-writer"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { gzipSync, zstdCompressSync } from "node:zlib"
import * as Csv from "../../src/data/Csv.ts"
import type { DataError, Reject } from "../../src/data/DataError.ts"
import * as Json from "../../src/data/Json.ts"
import * as Jsonl from "../../src/data/Jsonl.ts"
import * as Parquet from "../../src/data/Parquet.ts"
import * as Records from "../../src/data/Records.ts"
import * as Rows from "../../src/data/Rows.ts"
import * as Text from "../../src/data/Text.ts"

type Write<A> = (rows: Stream.Stream<A>) => Effect.Effect<void, DataError, FileSystem.FileSystem>

const temporary = Effect.fnUntraced(function* (name: string, content?: string | Uint8Array) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const file = path.join(yield* fs.makeTempDirectoryScoped(), name)
  if (content !== undefined) yield* fs.writeFile(file, Buffer.from(content as string))
  return file
})

/** Rows as they are, rejects as `line: reason`. */
const collect = <A>(reader: Rows.Reader<A>) =>
  Effect.map(Stream.runCollect(reader), (all) =>
    all.map(
      Result.match({
        onSuccess: ({ line, row }): unknown => [line, row],
        onFailure: ({ line, reason }: Reject) => `${line}: ${reason}`
      })
    )
  )

const rowsOf = <A>(reader: Rows.Reader<A>) =>
  Effect.map(Stream.runCollect(reader), (all) => all.map((result) => Result.getOrThrow(result).row))

/** Whatever is written is read again. */
const roundTrip = <A>(
  rows: fc.Arbitrary<ReadonlyArray<A>>,
  name: string,
  write: (file: string) => Write<A>,
  read: (file: string) => Rows.Reader<unknown>,
  numRuns = 15
) =>
  Effect.gen(function* () {
    const file = yield* temporary(name)
    for (const sample of fc.sample(rows, { seed: 7, numRuns })) {
      yield* write(file)(Stream.fromIterable(sample))
      assert.deepStrictEqual<unknown>(yield* rowsOf(read(file)), sample)
    }
  })

const anyText = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.stringMatching(/^[a",\r\n;\\[\]{}é漢😀]*$/u),
  fc.constantFrom("", " ", "\r\n", '"', '""', "\u2028")
)
/** Text files hold no NUL bytes. */
const text = anyText.filter((value) => !value.includes("\0"))
const json = fc.jsonValue({ maxDepth: 3 }).map((value): unknown => JSON.parse(JSON.stringify(value)))
const objects = fc.array(
  fc.dictionary(
    anyText.filter((key) => key !== "__proto__"),
    json,
    { noNullPrototype: true }
  )
)
const cells = fc.array(fc.record({ a: text, "b, c": text }, { noNullPrototype: true }))
const columns = {
  text: "string",
  number: "double",
  count: "int",
  label: "boolean",
  turns: { list: { struct: { content: "string", role: "string" } } }
} as const
const typed = fc.array(
  fc.record(
    {
      text,
      number: fc.double({ noNaN: true, noDefaultInfinity: true }),
      count: fc.maxSafeInteger(),
      label: fc.boolean(),
      turns: fc.array(fc.record({ content: text, role: text }, { noNullPrototype: true }), { maxLength: 3 })
    },
    { noNullPrototype: true }
  )
)

const liveMegabytes = () => {
  setFlagsFromString("--expose-gc")
  runInNewContext("gc")()
  return process.memoryUsage().heapUsed / 2 ** 20
}

layer(NodeServices.layer)("formats", (it) => {
  for (const packed of ["", ".gz", ".zst"]) {
    it.effect(`Jsonl${packed}: what is written is read`, () =>
      roundTrip(objects, `rows.jsonl${packed}`, Jsonl.write, Jsonl.read)
    )
    it.effect(`Json${packed}: what is written is read`, () =>
      roundTrip(objects, `rows.json${packed}`, Json.write, Json.read)
    )
    it.effect(`Csv${packed}: what is written is read`, () =>
      roundTrip(cells, `rows.csv${packed}`, (file) => Csv.write(file, ["a", "b, c"]), Csv.read)
    )
  }
  it.effect("Csv: what is written is read, with one column and blank cells", () =>
    roundTrip(
      fc.array(fc.record({ a: text }, { noNullPrototype: true })),
      "r.csv",
      (f) => Csv.write(f, ["a"]),
      Csv.read
    )
  )
  it.effect("Text: what is written is read", () =>
    roundTrip(
      fc.array(text.filter((line) => line.trim() !== "" && !/[\r\n\uFEFF]/.test(line))),
      "rows.txt",
      Text.write,
      (file) => Text.read(file).pipe(Stream.map(Result.map(({ line, row }) => ({ line, row: row.prompt }))))
    )
  )
  it.effect("Parquet: what is written is read, over several row groups", () =>
    roundTrip(typed, "rows.parquet", (file) => Parquet.write(file, columns, { rowGroup: 3 }), Parquet.read)
  )

  it.effect(
    "Parquet: a mark at the start of a text stays, and what a number or a text cannot hold is not altered",
    () =>
      Effect.gen(function* () {
        const file = yield* temporary("rows.parquet")
        const hash = 2n ** 63n - 1n
        const image = Buffer.of(0x89, 0xff, 0)
        parquetWriteFile({
          filename: file,
          columnData: [
            { name: "prompt", data: ["\uFEFFone", "two \uFFFD"], type: "STRING" },
            { name: "hash", data: [hash, 2n], type: "INT64" },
            { name: "image", data: [image, Buffer.from("text")], type: "BYTE_ARRAY" }
          ]
        })
        assert.deepStrictEqual<unknown>(yield* rowsOf(Parquet.read(file)), [
          { prompt: "\uFEFFone", hash: String(hash), image: new Uint8Array(image) },
          { prompt: "two \uFFFD", hash: 2, image: "text" }
        ])
      })
  )

  it.effect("a bad line is rejected with its number and the rest goes on", () =>
    Effect.gen(function* () {
      const bad = Buffer.concat([
        Buffer.from('{"a":1}\r\n\r\n{"a":\n[1]\n{"a":"'),
        Buffer.of(0xff),
        Buffer.from('"}\n{"a":2}')
      ])
      for (const [name, pack] of [
        ["r.jsonl", (bytes: Uint8Array) => bytes],
        ["r.jsonl.gz", gzipSync],
        ["r.jsonl.zst", zstdCompressSync]
      ] as const) {
        const all = yield* collect(Jsonl.read(yield* temporary(name, pack(bad))))
        assert.deepStrictEqual(
          [all[0], ...all.slice(2)],
          [[1, { a: 1 }], "4: not a JSON object but an array", "5: not valid UTF-8", [6, { a: 2 }]]
        )
        assert.include(all[1], "3: not valid JSON")
      }
    })
  )

  it.effect("Json: a bad element is rejected with its line; a torn end costs the last one", () =>
    Effect.gen(function* () {
      const all = yield* collect(
        Json.read(yield* temporary("r.json", '[{"a":"],"},\n\n{"a":nil},\n 7,,{"a":[1,{}]},{"b":[1]'))
      )
      assert.deepStrictEqual(all[0], [1, { a: "]," }])
      assert.include(all[1], "3: not valid JSON")
      assert.deepStrictEqual(all.slice(2, 5), [
        "4: not a JSON object",
        "4: nothing before the comma",
        [4, { a: [1, {}] }]
      ])
      assert.include(all[5], "4: not valid JSON")
      assert.deepStrictEqual(yield* collect(Json.read(yield* temporary("r.json", " [ ] \n"))), [])
      const error = yield* Effect.flip(collect(Json.read(yield* temporary("r.json", '{"a":[1]}'))))
      assert.include(error.message, "is not a JSON array")
    })
  )

  it.effect("Csv: quotes, line breaks and CRLF are read; records that do not fit are rejected, never filled", () =>
    Effect.gen(function* () {
      const lines = ['\uFEFF"a",b', '1,"x\r\n""y"""', "2", "3,4,5", '6"7,8', '"6"7,8', "", ",", "8,x\ry", '9,"open']
      const all = yield* collect(Csv.read(yield* temporary("r.csv", lines.join("\r\n"))))
      assert.deepStrictEqual(all, [
        [2, { a: "1", b: 'x\r\n"y"' }],
        "4: 1 cells under a header of 2",
        "5: 3 cells under a header of 2",
        "6: cell 1: a quote out of place",
        "7: cell 1: a quote out of place",
        [9, { a: "", b: "" }],
        "10: cell 2: a carriage return that is not in quotes and ends no line",
        "11: cell 2: a quote that is not closed"
      ])
      const error = yield* Effect.flip(collect(Csv.read(yield* temporary("r.csv", "a,a\n1,2"))))
      assert.include(error.message, "two columns named `a`")
    })
  )

  it.effect("characters torn between chunks are whole again, whatever the format", () =>
    Effect.gen(function* () {
      // 64 KiB is a chunk of the file system: the shifts put every byte of a character on its border.
      for (const shift of [0, 1, 2, 3]) {
        const a = "x".repeat(shift) + "😀漢é".repeat(20_000)
        const file = yield* temporary("r", JSON.stringify([{ a }]))
        assert.deepStrictEqual(yield* rowsOf(Json.read(file)), [{ a }])
        assert.deepStrictEqual(yield* rowsOf(Jsonl.read(yield* temporary("r", JSON.stringify({ a })))), [{ a }])
        assert.deepStrictEqual(yield* rowsOf(Csv.read(yield* temporary("r", `a\r\n"${a}"\r\n`))), [{ a }])
      }
    })
  )

  it.effect("a record without end does not fill the memory", () =>
    Effect.gen(function* () {
      const file = yield* temporary("r.txt", `a\n${"x".repeat(1000)}\nb\n`)
      const all = yield* Stream.runCollect(Records.read(file, Records.lines, { maxBytes: 100 }))
      assert.deepStrictEqual(
        all.map((result) => (Result.isFailure(result) ? result.failure.reason : result.success.line)),
        [1, "longer than 100 bytes", 3]
      )
    })
  )

  it.effect("a writer that fails leaves the old file and nothing else", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const file = yield* temporary("r.jsonl", "old")
      const rows = Stream.make<Array<object>>({ a: 1 }, { a: Number.NaN })
      const writers: ReadonlyArray<readonly [Write<object>, string]> = [
        [Jsonl.write(file), "row 2 cannot be written: `a` is NaN"],
        [Json.write(file), "row 2 cannot be written: `a` is NaN"],
        [Csv.write(file, ["a"]) as Write<object>, "row 2 cannot be written: `a` is neither text nor a number"],
        [Parquet.write(file, { a: "double" }), "row 2 cannot be written: `a` is not a finite number"],
        [Parquet.write(file, { a: "double", b: "string" }), "row 1 cannot be written: it has no `b`"]
      ]
      for (const [write, reason] of writers) {
        assert.include((yield* Effect.flip(write(rows))).message, reason)
        assert.strictEqual(yield* fs.readFileString(file), "old")
        assert.deepStrictEqual(yield* fs.readDirectory(path.dirname(file)), ["r.jsonl"])
      }
    })
  )

  it.effect("half a character is kept by JSONL, and refused where another one would stand in its place", () =>
    Effect.gen(function* () {
      const file = yield* temporary("r.jsonl")
      const half = "Yes \uD83D"
      yield* Stream.make({ a: half }).pipe(Jsonl.write(file))
      assert.deepStrictEqual<unknown>(yield* rowsOf(Jsonl.read(file)), [{ a: half }])
      const reason = "row 1 cannot be written: `a` has half a character"
      assert.include((yield* Effect.flip(Csv.write(file, ["a"])(Stream.make({ a: half })))).message, reason)
      assert.include(
        (yield* Effect.flip(Parquet.write(file, { a: "string" })(Stream.make({ a: half })))).message,
        reason
      )
      assert.include((yield* Effect.flip(Text.write(file)(Stream.make(half)))).message, "it has half a character")
    })
  )

  it.effect("200,000 packed lines pass in constant memory", () =>
    Effect.gen(function* () {
      const file = yield* temporary("large.jsonl.zst")
      const row = { prompt: "How do I keep my memory small?", filler: "x".repeat(100) }
      yield* Stream.range(1, 200_000).pipe(
        Stream.map((id) => ({ id, ...row })),
        Jsonl.write(file)
      )
      let count = 0
      const live: Array<number> = []
      yield* Jsonl.read(file).pipe(
        Stream.runForEachArray((chunk) =>
          Effect.sync(() => {
            count += chunk.length
            if (Math.floor(count / 50_000) > live.length) live.push(liveMegabytes())
          })
        )
      )
      assert.strictEqual(count, 200_000)
      assert.strictEqual(live.length, 4)
      // The rows are 30 MB of text.
      assert.isBelow(Math.max(...live) - Math.min(...live), 10)
    })
  )
})

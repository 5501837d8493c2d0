import { describe, expect, it } from "@effect/vitest"
import { Effect, Result } from "effect"
import * as fc from "fast-check"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as Safetensors from "../../src/model/Safetensors.ts"
import { temporaryFolder } from "./temporaryFolder.ts"

const golden = path.join(import.meta.dirname, "../fixtures/tiny-llama/golden.safetensors")

/** A file's bytes from its header's text and the size of its data. */
const bytesOf = (header: string | Uint8Array, dataBytes = 0): Uint8Array => {
  const text = typeof header === "string" ? new TextEncoder().encode(header) : header
  const bytes = new Uint8Array(8 + text.length + dataBytes)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true)
  bytes.set(text, 8)
  return bytes
}

const reasonOf = (bytes: Uint8Array): string =>
  Result.match(Safetensors.parseHeader(bytes, bytes.length, "x.safetensors"), {
    onSuccess: () => "valid",
    onFailure: (error) => error.message
  })

const one = (entry: object, dataBytes: number) => reasonOf(bytesOf(JSON.stringify({ t: entry }), dataBytes))

const compared = Effect.fnUntraced(function* (a: Safetensors.Tensor, b: Safetensors.Tensor) {
  const file = path.join(yield* temporaryFolder, "x.safetensors")
  yield* Safetensors.write(file, [a, b])
  const { tensors } = yield* Safetensors.read(file)
  return yield* Safetensors.equal(tensors.get(a.name)!, tensors.get(b.name)!)
})

describe("Safetensors.equal", () => {
  it.effect("compares type, shape and every byte of tensors of any size", () =>
    Effect.gen(function* () {
      // More than one piece.
      const data = Float32Array.from({ length: 2_200_000 }, (_, i) => i)
      const a = { name: "a", shape: [2, 1_100_000], data }
      expect(yield* compared(a, { ...a, name: "b" })).toBe(true)
      expect(yield* compared(a, { ...a, name: "b", data: data.with(data.length - 1, 0) })).toBe(false)
      expect(yield* compared(a, { ...a, name: "b", data: data.with(0, 1) })).toBe(false)
      expect(yield* compared(a, { ...a, name: "b", shape: [1_100_000, 2] })).toBe(false)
      expect(yield* compared(a, { ...a, name: "b", dtype: "F16" })).toBe(false)
    })
  )
})

describe("Safetensors.parseHeader", () => {
  it("reads what a header says", () => {
    const header = `{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"I8","shape":[],"data_offsets":[8,9]}}  `
    const bytes = bytesOf(header, 9)
    const file = Result.getOrThrow(Safetensors.parseHeader(bytes, bytes.length, "x"))
    expect(file.metadata).toEqual({ format: "pt" })
    const start = 8 + header.length
    expect([...file.tensors.values()]).toEqual([
      { name: "a", file: "x", dtype: "F32", shape: [2], offset: start, length: 8 },
      { name: "b", file: "x", dtype: "I8", shape: [], offset: start + 8, length: 1 }
    ])
  })

  it("allows tensors without elements anywhere", () => {
    const header = {
      a: { dtype: "F32", shape: [1], data_offsets: [0, 4] },
      b: { dtype: "F32", shape: [0, 3], data_offsets: [0, 0] },
      c: { dtype: "F32", shape: [0], data_offsets: [4, 4] }
    }
    expect(reasonOf(bytesOf(JSON.stringify(header), 4))).toBe("valid")
    expect(reasonOf(bytesOf("{}"))).toBe("valid")
  })

  it("refuses every broken rule in a sentence", () => {
    expect(reasonOf(new Uint8Array(7))).toContain("has 7 bytes, too few")
    expect(reasonOf(new TextEncoder().encode("version https://git-lfs.github.com/spec/v1\n"))).toContain(
      "is a pointer of Git LFS in place of the file; run git lfs pull"
    )
    const huge = bytesOf("{}")
    huge.fill(0xff, 0, 8)
    expect(reasonOf(huge)).toContain("announces a header of 18446744073709551615 bytes")
    const long = bytesOf("{}")
    long[0] = 3
    expect(reasonOf(long)).toContain("announces a header of 3 bytes but has only 10 bytes")
    expect(reasonOf(bytesOf(" {}"))).toContain("does not start with {")
    expect(reasonOf(bytesOf(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x7d)))).toContain("not UTF-8")
    expect(reasonOf(bytesOf("{"))).toContain("not JSON")
    expect(reasonOf(bytesOf(`{"a`))).toContain("not JSON")
    expect(reasonOf(bytesOf(`{"a":{"shape":[[`))).toContain("nested too deeply")
    expect(reasonOf(bytesOf(`{"a":1}`))).toContain("without a valid dtype")
    expect(reasonOf(bytesOf(`{"a\\nb":1}`))).toContain("its tensor a\\u{a}b without")
    expect(reasonOf(bytesOf(`{"__metadata__":{"a":1}}`))).toContain("metadata")
    expect(reasonOf(bytesOf(`{"__metadata__":7}`))).toContain("metadata")
    expect(reasonOf(bytesOf(`{"__metadata__":null}`))).toBe("valid")

    expect(one({ dtype: "F32", shape: [1], data_offsets: [0, 4] }, 4)).toBe("valid")
    expect(one({ dtype: "F32", shape: [2], data_offsets: [0, 4] }, 4)).toContain(
      "has 4 bytes for its tensor t of F32 [2]"
    )
    expect(one({ dtype: "F8_E4M3", shape: [2], data_offsets: [0, 2] }, 2)).toBe("valid")
    expect(one({ dtype: "U32", shape: [1], data_offsets: [0, 2] }, 2)).toContain("has 2 bytes for its tensor t of U32")
    expect(one({ dtype: "F4", shape: [2], data_offsets: [0, 1] }, 1)).toContain(
      "as F4, which Charter does not read; save it as F32, F16 or BF16"
    )
    expect(one({ dtype: "toString", shape: [1], data_offsets: [0, 1] }, 1)).toContain("does not read")
    expect(one({ dtype: "F32", shape: [1], data_offsets: [4, 0] }, 4)).toContain("places its tensor t")
    expect(one({ dtype: "F32", shape: [1], data_offsets: [-4, 0] }, 4)).toContain("without a valid dtype")
    expect(one({ dtype: "F32", shape: [2], data_offsets: [0, 8] }, 4)).toContain("places its tensor t")
    expect(one({ dtype: "F32", shape: [1.5], data_offsets: [0, 6] }, 6)).toContain("without a valid dtype")
    expect(one({ dtype: "F32", shape: [-1, -1], data_offsets: [0, 4] }, 4)).toContain("without a valid dtype")
    expect(one({ dtype: "F32", shape: Array(9).fill(2 ** 40), data_offsets: [0, 4] }, 4)).toContain("has 4 bytes")
    expect(one({ dtype: "F32", shape: [1], data_offsets: [0, 4] }, 5)).toContain("has 1 bytes after its last tensor")
    expect(one({ dtype: "F32", shape: [1], data_offsets: [4, 8] }, 8)).toContain("hole of 4 bytes before its tensor t")
    const overlap = {
      a: { dtype: "F32", shape: [2], data_offsets: [0, 8] },
      b: { dtype: "F32", shape: [1], data_offsets: [4, 8] }
    }
    expect(reasonOf(bytesOf(JSON.stringify(overlap), 8))).toContain("b that overlaps")
  })

  it("sees a name given twice, also when it is written with escapes", () => {
    const entry = `{"dtype":"F32","shape":[1],"data_offsets":[0,4]}`
    expect(reasonOf(bytesOf(`{"a":${entry},"a":${entry}}`, 4))).toContain(`names "a" twice`)
    expect(reasonOf(bytesOf(`{"a" : ${entry},"\\u0061":${entry}}`, 4))).toContain(`names "a" twice`)
    expect(reasonOf(bytesOf(`{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4))).toContain(
      "twice"
    )
    expect(reasonOf(bytesOf(`{"\\"a":${entry},"__metadata__":{"x":"\\"a","y":"\\\\"}}`, 4))).toBe("valid")
  })

  it("never throws, whatever the bytes", async () => {
    const file = await fs.readFile(golden)
    const headerEnd = 8 + Number(file.readBigUInt64LE(0))
    const mutated = fc
      .array(fc.tuple(fc.nat(headerEnd - 1), fc.nat(255)), { minLength: 1, maxLength: 4 })
      .map((changes) => {
        const bytes = Uint8Array.from(file)
        for (const [at, value] of changes) bytes[at] = value
        return bytes
      })
    const truncated = fc.nat(file.length - 1).map((length) => Uint8Array.from(file.subarray(0, length)))
    const json = fc.json().map((text) => bytesOf(text, 4))
    const entries = fc
      .dictionary(
        fc.string(),
        fc.record(
          {
            dtype: fc.constantFrom("F32", "I8", "X"),
            shape: fc.array(fc.oneof(fc.nat(3), fc.double())),
            data_offsets: fc.array(fc.oneof(fc.nat(8), fc.double()))
          },
          { requiredKeys: [] }
        )
      )
      .map((header) => bytesOf(JSON.stringify(header), 8))
    fc.assert(
      fc.property(fc.oneof(mutated, truncated, json, entries, fc.uint8Array()), (bytes) => {
        const result = Safetensors.parseHeader(bytes, bytes.length, "x")
        if (Result.isFailure(result)) {
          expect(result.failure).toBeInstanceOf(Safetensors.SafetensorsError)
          return
        }
        for (const { length, offset } of result.success.tensors.values()) {
          expect(offset + length).toBeLessThanOrEqual(bytes.length)
        }
      }),
      { numRuns: 500 }
    )
  })
})

describe("Safetensors files", () => {
  it.effect("reads a file that Python wrote", () =>
    Effect.gen(function* () {
      const file = yield* Safetensors.read(golden)
      const ids = yield* Safetensors.loadIntegers(file.tensors.get("ids")!)
      expect(ids.length).toBe(3 * 24)
      expect(Math.max(...ids)).toBeLessThan(320)
      const loss = yield* Safetensors.load(file.tensors.get("loss")!)
      expect(loss[0]).toBeCloseTo(5.8768, 4)
      const error = yield* Effect.flip(Safetensors.load(file.tensors.get("ids")!))
      expect(error.message).toContain("holds ids as I64 where floats are needed")
    })
  )

  it.effect("gives back what it wrote, unaligned tensors too", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const file = path.join(dir, "a.safetensors")
      yield* Safetensors.write(file, [
        { name: "z", shape: [2, 2], data: Float32Array.of(1, 2, 3, 4) },
        { name: "half", shape: [3], data: Float32Array.of(0.1, -65504, 2 ** -24), dtype: "F16" },
        { name: "__proto__", shape: [], data: Float32Array.of(7) }
      ])
      const read = yield* Safetensors.read(file)
      expect(read.metadata).toEqual({ format: "pt" })
      expect([...read.tensors.keys()]).toEqual(["__proto__", "z", "half"])
      expect(read.tensors.get("__proto__")!.offset % 8).toBe(0)
      expect([...(yield* Safetensors.load(read.tensors.get("z")!))]).toEqual([1, 2, 3, 4])
      expect([...(yield* Safetensors.load(read.tensors.get("half")!))]).toEqual([0.0999755859375, -65504, 2 ** -24])
      expect([...(yield* Safetensors.load(read.tensors.get("__proto__")!))]).toEqual([7])
      expect(yield* Effect.promise(() => fs.readdir(dir))).toEqual(["a.safetensors"])

      const odd = path.join(dir, "odd.safetensors")
      const header = `{"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"f":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}}`
      const bytes = bytesOf(header, 5)
      bytes.set(new Uint8Array(Float32Array.of(2.5).buffer), bytes.length - 4)
      yield* Effect.promise(() => fs.writeFile(odd, bytes))
      expect([...(yield* Safetensors.load((yield* Safetensors.read(odd)).tensors.get("f")!))]).toEqual([2.5])
    })
  )

  it.effect("keeps every element type", () =>
    Effect.gen(function* () {
      const file = path.join(yield* temporaryFolder, "a.safetensors")
      const integers = [
        { name: "I64", shape: [2], data: BigInt64Array.of(-(2n ** 53n) + 1n, 5n), dtype: "I64" },
        { name: "I32", shape: [1, 2], data: Int32Array.of(-(2 ** 31), 7), dtype: "I32" },
        { name: "I8", shape: [2], data: Int8Array.of(-128, 127), dtype: "I8" },
        { name: "U8", shape: [2], data: Uint8Array.of(0, 255), dtype: "U8" },
        { name: "BOOL", shape: [2], data: Uint8Array.of(0, 1), dtype: "BOOL" }
      ] as const
      const data = Float32Array.of(1.00390625, -3e38, NaN, Infinity)
      const floats = (["F32", "BF16", "F16"] as const).map((dtype) => ({ name: dtype, shape: [4], data, dtype }))
      yield* Safetensors.write(file, [...integers, ...floats])
      const { tensors } = yield* Safetensors.read(file)
      for (const { data, name } of integers) {
        expect(yield* Safetensors.loadIntegers(tensors.get(name)!)).toEqual(Array.from(data, Number))
      }
      expect([...(yield* Safetensors.load(tensors.get("F32")!))]).toEqual([...data])
      // Half-way between 1 and 1.0078125, so to even; 3e38 is still a BF16, but no F16.
      expect([...(yield* Safetensors.load(tensors.get("BF16")!))]).toEqual([1, -3.00405527047391e38, NaN, Infinity])
      expect([...(yield* Safetensors.load(tensors.get("F16")!))]).toEqual([1.00390625, -Infinity, NaN, Infinity])

      yield* Safetensors.write(file, [
        { name: "b", shape: [1], data: Uint8Array.of(2), dtype: "BOOL" },
        { name: "i", shape: [1], data: BigInt64Array.of(2n ** 60n), dtype: "I64" }
      ])
      const wrong = (yield* Safetensors.read(file)).tensors
      for (const name of ["b", "i"]) {
        const error = yield* Effect.flip(Safetensors.loadIntegers(wrong.get(name)!))
        expect(error.message).toContain(`in ${name}, which is no`)
      }
    })
  )

  it.effect("refuses tensors that do not fit their description and leaves the old file", () =>
    Effect.gen(function* () {
      const dir = yield* temporaryFolder
      const file = path.join(dir, "a.safetensors")
      yield* Safetensors.write(file, [{ name: "a", shape: [1], data: Float32Array.of(1) }])
      const short = yield* Effect.flip(Safetensors.write(file, [{ name: "a", shape: [2], data: Float32Array.of(1) }]))
      expect(short.message).toContain("of shape [2] with 1 elements")
      const a = { name: "a", shape: [1], data: Float32Array.of(1) }
      expect((yield* Effect.flip(Safetensors.write(file, [a, a]))).message).toContain("two entries named a")
      expect((yield* Safetensors.read(file)).tensors.size).toBe(1)
      expect((yield* Effect.flip(Safetensors.write(path.join(dir, "no", "b"), [a]))).message).toContain(
        "cannot be written"
      )
      expect((yield* Effect.flip(Safetensors.read(path.join(dir, "none")))).message).toContain("cannot be read")
    })
  )
})

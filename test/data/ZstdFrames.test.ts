import { assert, describe, it } from "@effect/vitest"
import { zstdCompressSync, constants } from "node:zlib"
import * as ZstdFrames from "../../src/data/ZstdFrames.ts"

const skippable = Buffer.of(0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3)
const checked = { params: { [constants.ZSTD_c_checksumFlag]: 1, [constants.ZSTD_c_contentSizeFlag]: 0 } }
const magic = [0x28, 0xb5, 0x2f, 0xfd]
const frames = [
  zstdCompressSync("some words"),
  zstdCompressSync("", checked),
  skippable,
  // Several blocks.
  zstdCompressSync(Buffer.alloc(300_000, 7), checked),
  // A block as it is, in a frame that names a dictionary by four bytes and has its size in two.
  Buffer.of(...magic, 0x63, 0, 0, 0, 0, 1, 0, (3 << 3) | 1, 0, 0, 1, 2, 3),
  // Its size in four bytes.
  zstdCompressSync(Buffer.alloc(70_000, 7)),
  // Its size in eight, or none, and dictionaries named by one byte and by two: each with an empty block.
  Buffer.of(...magic, 0xe1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0),
  Buffer.of(...magic, 0x02, 0, 9, 9, 1, 0, 0),
  // A block of 200 times one byte.
  Buffer.of(...magic, 0x20, 200, ((200 << 3) & 0xff) | 0b11, 200 >> 5, 0, 7)
]
const file = Buffer.concat(frames)

describe("ZstdFrames", () => {
  it("cuts after each frame, wherever a chunk ends", () => {
    const ends = frames.map((_, i) => Buffer.concat(frames.slice(0, i + 1)).length)
    for (const size of [1, 5, 64, file.length]) {
      const cut = ZstdFrames.cutter()
      const chunks = Array.from({ length: Math.ceil(file.length / size) }, (_, i) =>
        file.subarray(i * size, (i + 1) * size)
      )
      const pieces = chunks.flatMap((chunk) => cut(chunk))
      assert.isTrue(Buffer.concat(pieces).equals(file))
      const cuts = pieces.map((_, i) => Buffer.concat(pieces.slice(0, i + 1)).length)
      assert.includeMembers(cuts, ends)
      if (size === file.length) assert.deepStrictEqual(cuts, ends)
    }
  })

  it("leaves bytes that are no frame to the unpacker", () => {
    const cut = ZstdFrames.cutter()
    assert.deepStrictEqual(cut(Buffer.concat([frames[0]!, Buffer.from("other things")])), [
      frames[0]!,
      Buffer.from("other things")
    ])
  })

  it("knows a file that begins with a frame to skip", () => {
    assert.isTrue(ZstdFrames.isZstd(skippable))
    assert.isFalse(ZstdFrames.isZstd(Buffer.from("P*M")))
  })
})

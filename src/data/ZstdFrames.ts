/**
 * ZstdFrames: packed bytes cut after each frame of zstd (RFC 8878, 3).
 *
 * A file may be several frames one after the other, as `pzstd` writes it and `cat` joins it. Node's unpacker takes what
 * follows a frame in the same chunk for the end and drops it without a word; what comes in a chunk of its own it unpacks.
 *
 * @internal
 */

const frameMagic = 0xfd2fb528

/** Of frames that hold anything but data; the last four bits are free. */
const skippableMagic = 0x184d2a50

/** Whether bytes begin as a file of zstd does. */
export const isZstd = (head: Uint8Array): boolean => {
  if (head.length < 4) return false
  const magic = uint32(head)
  return magic === frameMagic || isSkippable(magic)
}

const uint32 = (bytes: Uint8Array): number =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(0, true)

const isSkippable = (magic: number): boolean => (magic & 0xfffffff0) >>> 0 === skippableMagic

/** Bytes to look at, or to pass over; the end of a frame. */
type Step = { readonly look: number } | { readonly pass: number } | "end"

/** The steps through frame after frame; none after bytes that are no frame, which the unpacker refuses. */
function* steps(): Generator<Step, void, Uint8Array> {
  for (;;) {
    const magic = uint32(yield { look: 4 })
    if (isSkippable(magic)) {
      yield { pass: uint32(yield { look: 4 }) }
    } else if (magic === frameMagic) {
      const [descriptor = 0] = yield { look: 1 }
      const single = (descriptor & 0x20) !== 0
      const contentSize = [single ? 1 : 0, 2, 4, 8][descriptor >> 6]!
      yield { pass: (single ? 0 : 1) + [0, 1, 2, 4][descriptor & 3]! + contentSize }
      for (let last = false; !last;) {
        const [a = 0, b = 0, c = 0] = yield { look: 3 }
        const block = a | (b << 8) | (c << 16)
        last = (block & 1) !== 0
        // Of a block that repeats one byte, only that byte is there.
        yield { pass: ((block >> 1) & 3) === 1 ? 1 : block >> 3 }
      }
      yield { pass: (descriptor & 4) === 0 ? 0 : 4 }
    } else return
    yield "end"
  }
}

/** A cutter of the chunks of one file: each piece that it gives holds bytes of one frame alone. */
export const cutter = (): ((chunk: Uint8Array) => ReadonlyArray<Uint8Array>) => {
  const walk = steps()
  let step: Step | void = walk.next(new Uint8Array()).value
  let seen: Array<number> = []
  let passed = 0
  return (chunk) => {
    const pieces: Array<Uint8Array> = []
    let [from, at] = [0, 0]
    for (;;) {
      if (step === "end") {
        if (at > from) pieces.push(chunk.subarray(from, at))
        from = at
        step = walk.next(new Uint8Array()).value
      } else if (step === undefined) {
        at = chunk.length
        break
      } else if ("look" in step) {
        while (seen.length < step.look && at < chunk.length) seen.push(chunk[at++]!)
        if (seen.length < step.look) break
        const looked = Uint8Array.from(seen)
        seen = []
        step = walk.next(looked).value
      } else {
        const length = Math.min(step.pass - passed, chunk.length - at)
        passed += length
        at += length
        if (passed < step.pass) break
        passed = 0
        step = walk.next(new Uint8Array()).value
      }
    }
    if (at > from) pieces.push(chunk.subarray(from, at))
    return pieces
  }
}

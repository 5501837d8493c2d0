import { describe, expect, it } from "@effect/vitest"
import { Effect, Result } from "effect"
import * as Device from "../../src/onnx/Device.ts"
import "../quiet.ts"

describe("Device", () => {
  it.effect("computes on the processor everywhere", () => Device.check("cpu"))

  it.live("computes on a GPU, or says what is missing and what to do", () =>
    Effect.gen(function* () {
      const checked = yield* Effect.result(Device.check("cuda"))
      if (Result.isSuccess(checked)) return
      expect(checked.failure._tag).toBe("DeviceError")
      expect(checked.failure.message).toMatch(/^ONNX Runtime cannot compute on cuda here: \S.*leave out the device/)
    })
  )
})

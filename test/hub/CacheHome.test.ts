import { afterEach, describe, expect, it, vi } from "vitest"
import * as path from "node:path"
import * as CacheHome from "../../src/hub/CacheHome.ts"

const system = vi.hoisted(() => ({ homedir: (): string => "/home/a", userInfo: () => ({ homedir: "/home/b" }) }))
vi.mock("node:os", async (original) => ({
  ...(await original<object>()),
  homedir: () => system.homedir(),
  userInfo: () => system.userInfo()
}))
const usual = { ...system }
afterEach(() => void Object.assign(system, usual))

describe("CacheHome", () => {
  it("is what XDG_CACHE_HOME says, if it says something", () => {
    expect(CacheHome.cacheHome({ XDG_CACHE_HOME: "/caches" })).toBe("/caches")
    expect(CacheHome.cacheHome({ XDG_CACHE_HOME: "" })).toBe(path.join("/home/a", ".cache"))
    expect(CacheHome.cacheHome({})).toBe(path.join("/home/a", ".cache"))
  })

  it("takes no notice of a relative one, as the specification has it", () => {
    for (const relative of ["caches", "./caches", "../caches", "."]) {
      expect(CacheHome.cacheHome({ XDG_CACHE_HOME: relative })).toBe(path.join("/home/a", ".cache"))
    }
  })

  it("is there for somebody whose HOME is empty, and for one whom the system does not know", () => {
    system.homedir = () => ""
    expect(CacheHome.home()).toBe("/home/b")
    const unknown = (): never => {
      throw new Error("uv_os_homedir returned ENOENT")
    }
    Object.assign(system, { homedir: unknown, userInfo: unknown })
    expect(CacheHome.home()).toBe(path.parse(process.cwd()).root)
  })
})

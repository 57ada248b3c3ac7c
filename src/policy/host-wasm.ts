/**
 * The part of the JavaScript API of WebAssembly that the policy host uses (https://www.w3.org/TR/wasm-js-api-1/), typed here
 * because Node's own types leave it out.
 */

/** Opaque: a compiled module. */
export interface WasmModule {
  readonly [Symbol.toStringTag]: 'WebAssembly.Module'
}

export interface WasmMemory {
  readonly buffer: ArrayBuffer
}

export interface WasmGlobal {
  value: number
}

export interface WasmInstance {
  readonly exports: Readonly<Record<string, unknown>>
}

interface WasmApi {
  readonly validate: (bytes: Uint8Array) => boolean
  readonly compile: (bytes: Uint8Array) => Promise<WasmModule>
  readonly Module: {
    new (bytes: Uint8Array): WasmModule
    imports(module: WasmModule): readonly { module: string; name: string; kind: string }[]
  }
  readonly Instance: new (
    module: WasmModule,
    imports: Readonly<Record<string, Readonly<Record<string, unknown>>>>,
  ) => WasmInstance
  readonly Memory: new (descriptor: { initial: number; maximum: number }) => WasmMemory
  /** Thrown for traps. */
  readonly RuntimeError: new (
    message?: string,
  ) => Error
}

/** The global `WebAssembly` object. */
export const wasmApi = (globalThis as unknown as { readonly WebAssembly: WasmApi }).WebAssembly

/** Why a bundle is not taken. `detail` names the file or field; the text never repeats a bundle's own content. */

/** archive, manifest, module: the bundle itself; signature, sequence: whether it may serve here. */
export type BundleRefusal = 'archive' | 'manifest' | 'content' | 'module' | 'signature' | 'sequence'

/** A bundle that is not put in force. Safe for everybody who may see readiness. */
export class BundleRefused extends Error {
  readonly reason: BundleRefusal

  constructor(reason: BundleRefusal, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'BundleRefused'
    this.reason = reason
  }
}

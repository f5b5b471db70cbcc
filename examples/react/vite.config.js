import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

export default defineConfig({
  plugins: [react()],
  // The API and Logto accept this origin only, so another port would not work.
  server: { host: '127.0.0.1', port: 5173, strictPort: true },
});

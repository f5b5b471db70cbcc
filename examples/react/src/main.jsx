import { LogtoProvider } from '@logto/react';
import { createRoot } from 'react-dom/client';

import App from './App.jsx';
import { logto } from './config.js';
import './style.css';

createRoot(document.getElementById('root')).render(
  <LogtoProvider config={logto}>
    <App />
  </LogtoProvider>,
);
